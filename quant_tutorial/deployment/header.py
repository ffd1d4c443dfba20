"""Convert a `.tflite` file to an array in C, for chips without a file system (lesson 09)."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from quant_tutorial import flatbuffer, saving
from quant_tutorial.flatbuffer import Tensor

# TFLM's own array generator uses the same alignment. The file format aligns the buffers of the
# weights to 16 bytes from the beginning of the file, which helps only if that is aligned as well.
ALIGNMENT = 16

# The keywords of C (up to C23) and C++ (up to C++20), and `main`, which every program has already.
_KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
    char32_t class co_await co_return co_yield compl concept const const_cast consteval constexpr
    constinit continue decltype default delete do double dynamic_cast else enum explicit export
    extern false float for friend goto if inline int long main mutable namespace new noexcept not
    not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires
    restrict return short signed sizeof static static_assert static_cast struct switch template
    this thread_local throw true try typedef typeid typename typeof typeof_unqual union unsigned
    using virtual void volatile wchar_t while xor xor_eq
"""
_ARRAY = re.compile(r"\bunsigned\s+char\s+(\w+)\s*\[\s*\d*\s*\][^={};]*=\s*\{([^{}]*)\}")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def c_array(model_bytes: bytes, name: str = "model") -> str:
    """Convert a `.tflite` file to a C header for LiteRT for Microcontrollers (lesson 09).

    The header compiles as C11 and C++11. It defines the array `name` and its length `name_len`. The
    array is aligned to 16 bytes, because the interpreter reads numbers of several bytes in place.

    Args:
        model_bytes: The content of the `.tflite` file.
        name: The array's name, an identifier that is not reserved in C or C++.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, or the name is not such an identifier.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or "__" in name:
        raise ValueError(
            f"name must be an identifier in C and C++, ASCII letters, digits and single "
            f"underscores, with a letter first, got {name!r}."
        )
    if name in _KEYWORDS.split():
        raise ValueError(f"name must not be a keyword of C or C++, got {name!r}: try g_{name}.")
    found = flatbuffer.graph(model_bytes)
    facts = [
        f"bytes:  {len(model_bytes)}",
        f"sha256: {hashlib.sha256(model_bytes).hexdigest()}",
        *(f"input:  {_c_comment(tensor)}" for tensor in found.inputs),
        *(f"output: {_c_comment(tensor)}" for tensor in found.outputs),
    ]
    rows = [model_bytes[start : start + 12] for start in range(0, len(model_bytes), 12)]
    lines = [
        "/* A .tflite model for LiteRT for Microcontrollers (TensorFlow Lite Micro).",
        " *",
        *(f" * {fact}" for fact in facts),
        " *",
        " * This header defines the array: include it in one source file only.",
        " */",
        f"#ifndef {name.upper()}_H_",
        f"#define {name.upper()}_H_",
        "",
        "#ifndef __cplusplus",
        "#include <stdalign.h> /* alignas, which C++ has without it */",
        "#endif",
        "",
        f"alignas({ALIGNMENT}) const unsigned char {name}[] = {{",
        *("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows),
        "};",
        f"const unsigned int {name}_len = {len(model_bytes)};",
        "",
        f"#endif /* {name.upper()}_H_ */",
        "",
    ]
    return "\n".join(lines)


def write_c_array(model_bytes: bytes, path: str | Path, name: str = "model") -> Path:
    """Write the header of `c_array` to a file, and return its path (lesson 09).

    Missing folders are made. If anything goes wrong, nothing is written, and an older file of that
    name stays unchanged.

    Raises:
        ValueError: as for `c_array`.
        OSError: when the file cannot be written.
    """
    header = c_array(model_bytes, name).encode("ascii")
    return saving.write_whole(Path(path), lambda part: part.write_bytes(header))


def read_c_array(text: str) -> bytes:
    """Read the bytes back from a C source or header that holds one array of them (lesson 09).

    It reads the output of `c_array`, of `xxd -i` and of TFLM's array generator.

    Raises:
        ValueError: when the text holds no such array or several, when the array holds anything but
            bytes, or when `name_len` or `name_size` is not the length of the array.
    """
    text = _COMMENT.sub(" ", text)
    name, values = _c_array_in(text)
    parts = [part.strip() for part in values.split(",")]
    if parts[-1] == "":  # after a comma at the end
        parts.pop()
    for part in parts:
        if not re.fullmatch(r"0[xX][0-9a-fA-F]+|0|[1-9][0-9]*", part) or int(part, 0) > 255:
            raise ValueError(f"text: the array {name} holds {part!r}, which is not a byte.")
    content = bytes(int(part, 0) for part in parts)
    length = re.search(rf"\b{name}_(?:len|size)\s*=\s*(\d+)", text)
    if length and int(length[1]) != len(content):
        raise ValueError(
            f"text: the array {name} has {len(content)} bytes, but its length says {length[1]}."
        )
    return content


def compile_and_read_back(path: str | Path, *, language: Literal["c", "c++"] = "c") -> bytes | None:
    """Compile a header of `c_array` on this machine, and return the bytes in it (lesson 09).

    A small program includes the header, checks the alignment of the array, and writes its bytes to
    a file.

    Args:
        path: The header.
        language: "c" compiles as C11 with `cc`, "c++" as C++11 with `c++`.

    Returns:
        The bytes of the array. None on a machine without such a compiler, or with one that cannot
        compile anything, because C's own headers or, on macOS, the command-line tools are missing.

    Raises:
        ValueError: for another language, or a file that holds no array.
        OSError: when the file cannot be read.
        RuntimeError: when the compiler refuses the header, or the array is not aligned.
        subprocess.TimeoutExpired: when the compiler or the program takes more than a minute.
    """
    if language not in ("c", "c++"):
        raise ValueError(f"language must be 'c' or 'c++', got {language!r}.")
    header = Path(path).read_text(encoding="utf-8")
    name, _ = _c_array_in(header)
    compiler = shutil.which("cc" if language == "c" else "c++")
    if compiler is None:
        return None
    program = f"""
        #include <stdint.h>
        #include <stdio.h>
        #include "header.h"
        int main(int count, char **arguments) {{
            FILE *file;
            if (count != 2 || (uintptr_t){name} % {ALIGNMENT} != 0) return 2;
            file = fopen(arguments[1], "wb");
            if (file == NULL) return 3;
            if (fwrite({name}, 1, {name}_len, file) != {name}_len) return 4;
            return fclose(file) == 0 ? 0 : 5;
        }}
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / ("main.c" if language == "c" else "main.cc")
        source.write_text(program, encoding="utf-8")
        source.with_name("header.h").write_text(header, encoding="utf-8")
        built, output = source.with_name("program.exe"), source.with_name("output")
        flags = [f"-std={language}11", "-Wall", "-Wextra", "-Werror", "-pedantic-errors"]
        trial = source.with_name(f"trial{source.suffix}")
        trial.write_text("#include <stdint.h>\n#include <stdio.h>\nint main(void) { return 0; }\n")
        try:
            _run([compiler, str(trial), "-o", str(built)], "the compiler compiles nothing")
        except RuntimeError:
            return None
        _run([compiler, *flags, str(source), "-o", str(built)], "the compiler refuses the header")
        _run([str(built), str(output)], "the compiled program finds the array not as it should be")
        return output.read_bytes()


def _c_array_in(text: str) -> tuple[str, str]:
    """Return the name and the values of the only array of bytes in a C source."""
    arrays = _ARRAY.findall(_COMMENT.sub(" ", text))
    if len(arrays) != 1:
        raise ValueError(f"text must hold one array of unsigned char, it holds {len(arrays)}.")
    return arrays[0]


def _c_comment(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape))
    if tensor.params is None:
        return f"{tensor.type}, shape {shape}"
    scale, zero_point = float(tensor.scales[0]), int(tensor.zero_points[0])
    return f"{tensor.type}, shape {shape}, scale {scale:.9g}, zero point {zero_point}"


def _run(command: list[str], failure: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        first = done.stderr[:2000]  # one mistake in a long array can cause thousands of lines
        raise RuntimeError(f"{failure} (status {done.returncode}).\n{first}")
