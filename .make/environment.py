"""Make .venv from the lock file: `make lab` and `make test` run this first.

It does nothing when .venv is up to date. It runs on any Python 3, so that one that is too old or
too new gets a clear sentence and not a syntax error: no f-strings, no third-party imports.
"""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "installed.sha256")
PYTHON = os.path.join(VENV, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))


# The course uses no network, so JupyterLab neither asks for news nor looks for its own updates.
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}


def read(name):
    """Give the bytes of a file of the project."""
    with open(os.path.join(ROOT, name), "rb") as file:
        return file.read()


def supported_versions():
    """Give the lowest supported Python and the first one that is not, from pyproject.toml."""
    text = read("pyproject.toml").decode("utf-8")
    bounds = re.search(r'requires-python = ">=(\d+)\.(\d+),<(\d+)\.(\d+)"', text)
    numbers = [int(number) for number in bounds.groups()]
    return tuple(numbers[:2]), tuple(numbers[2:])


def version_problem(version):
    """Say what is wrong with this Python version, or give None."""
    low, high = supported_versions()
    if low <= tuple(version[:2]) < high:
        return None
    return (
        "This is Python %d.%d, which is too %s: TensorFlow needs Python %d.%d to %d.%d.\n"
        "Install one of these and name it, for example: make %s PYTHON=python%d.%d"
    ) % (
        (version[0], version[1], "old" if tuple(version[:2]) < low else "new")
        + (low[0], low[1], high[0], high[1] - 1)
        + (os.environ.get("MAKE_GOAL") or "lab", high[0], high[1] - 1)
    )


def fingerprint():
    """Give a digest of everything the environment is made from."""
    made_by = ("pyproject.toml", "requirements.lock", ".make/environment.py")
    parts = [sys.version.encode(), VENV.encode()] + [read(name) for name in made_by]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_current():
    """Tell whether .venv was completed from just these files and still starts."""
    try:
        with open(STAMP) as file:
            same = file.read() == fingerprint()
    except OSError:
        return False
    return same and has_this_python()


def has_this_python():
    """Tell whether .venv exists, starts, and has the Python that runs this script."""
    try:
        version = subprocess.check_output([PYTHON, "-c", "import sys; print(sys.version)"])
    except (OSError, subprocess.CalledProcessError):
        return False
    return version.decode().split() == sys.version.split()


def make():
    """Create .venv and install the locked packages and the course itself (editable)."""
    # Without a stamp the last attempt did not come to its end, and pip would take half-installed
    # packages for whole ones.
    fresh = not os.path.exists(STAMP) or not has_this_python()
    if os.path.exists(STAMP):
        os.remove(STAMP)
    has_pip = importlib.util.find_spec("ensurepip") is not None
    if fresh:
        # Debian and Ubuntu may ship a Python that cannot put pip into a new environment.
        flags = ["--clear"] if has_pip else ["--clear", "--without-pip"]
        subprocess.check_call([sys.executable, "-m", "venv"] + flags + [VENV])
    pip = [PYTHON, "-m", "pip"] if has_pip else [sys.executable, "-m", "pip", "--python", PYTHON]
    pip += ["--disable-pip-version-check", "install", "--quiet"]
    sys.stderr.write("Installing the course into .venv (about 2 GB, a few minutes) …\n")
    lock = os.path.join(ROOT, "requirements.lock")
    subprocess.check_call([*pip, "--require-hashes", "--only-binary=:all:", "-r", lock])
    subprocess.check_call([*pip, "--no-deps", "--no-build-isolation", "-e", ROOT])
    # Matplotlib's first import lists the fonts and warns that it does: better here than in a page.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.check_call([PYTHON, "-c", "import matplotlib.font_manager"], **quiet)
    settings = os.path.join(VENV, "share", "jupyter", "lab", "settings")
    os.makedirs(settings, exist_ok=True)
    with open(os.path.join(settings, "overrides.json"), "w") as file:
        json.dump(LAB_SETTINGS, file)
    with open(STAMP, "w") as file:
        file.write(fingerprint())


if __name__ == "__main__":
    problem = version_problem(sys.version_info)
    if problem:
        sys.exit(problem)
    if not is_current():
        try:
            make()
        except subprocess.CalledProcessError as error:
            sys.exit(
                "Setting up .venv failed (see above); mend the cause and run make again: %s" % error
            )
