"""Kernels for the tests that start at once, because they are forked from a process that is ready.

To import TensorFlow, Keras and Matplotlib takes four seconds of a processor, and the tests start a
kernel for each notebook. Here a server imports them once, when the first kernel is asked for. What
Jupyter starts is a client (`ask`): the server forks a kernel for it, with the client's environment,
folder and output, and the client lives as long as that kernel. Importing TensorFlow starts no
thread, which a fork would lose; a kernel starts them when it first computes.

A reader's kernel imports all by itself. So do those of `make notebooks`, and `test_quiet` sees what
such an import says.
"""

import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

READY = (
    *("keras", "tensorflow", "scipy.stats", "matplotlib.pyplot"),
    *("ipykernel.kernelapp", "ipykernel.debugger", "ipywidgets"),
)
# What these read while they are imported, as `quant_tutorial.quiet` and ipykernel set it.
SETTINGS = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
# An environment and the name of a file: far less than a packet may have.
PACKET = 1 << 17
TICK = 0.1  # seconds after which a kernel that has ended is missed at the latest


class Request(NamedTuple):
    """What a kernel begins with."""

    arguments: list[str]  # as ipykernel's launcher gets them
    folder: str
    environment: dict[str, str]


@contextlib.contextmanager
def serving() -> Iterator[dict[str, str]]:
    """Run a server; give the environment in which Jupyter's `python3` is one of its kernels."""
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "address")
        here = Path(__file__).resolve()
        kernel = Path(folder) / "kernels" / "python3" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        # -S: the client is to be there at once, and needs no installed package.
        client = [sys.executable, "-S", str(here), "ask", address, "-f", "{connection_file}"]
        name = {"display_name": "Python 3 (ipykernel)", "language": "python"}
        # The client gets no signal that the kernel would have to get.
        spec = {"argv": client, **name, "interrupt_mode": "message"}
        kernel.write_text(json.dumps(spec), encoding="utf-8")
        server = subprocess.Popen(
            [sys.executable, str(here), "serve", address],
            stdin=subprocess.PIPE,
            env={**os.environ, **SETTINGS},
            start_new_session=True,
        )
        try:
            paths = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
            yield {"JUPYTER_PATH": paths}
        finally:
            server.stdin.close()  # asks it to end; a killed test run closes it as well
            server.wait()


def ask(address: str, *arguments: str) -> int:
    """Ask the server for a kernel, and return its exit code when it has ended."""
    request = Request([*arguments], str(Path.cwd()), dict(os.environ))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(address)
        socket.send_fds(server, [json.dumps(request).encode()], [1, 2])
        return int(server.recv(PACKET) or 1)


def serve(address: str) -> Request:
    """Fork a kernel for each client; return, in the kernel's process, what was asked for.

    A client that is gone, killed perhaps, takes its kernel with it.
    """
    kernels: dict[socket.socket, int] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        with selectors.DefaultSelector() as ready:
            ready.register(0, selectors.EVENT_READ)
            ready.register(listener, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select(TICK if kernels else None):
                    if key.fileobj == 0:
                        for kernel in kernels.values():
                            kill(kernel)
                        sys.exit()
                    elif key.fileobj is listener:
                        client, _ = listener.accept()
                        kernel, request = fork(client)
                        if not kernel:
                            for other in (client, *kernels):
                                other.close()
                            return request
                        ready.register(client, selectors.EVENT_READ)
                        kernels[client] = kernel
                    else:
                        kill(kernels[key.fileobj])
                for client in report_ended(kernels):
                    ready.unregister(client)
                    client.close()
                    del kernels[client]


def fork(client: socket.socket) -> tuple[int, Request]:
    """Fork a kernel with the client's output; return its process, 0 in itself, and its request."""
    from quant_tutorial import quiet  # not at the top: the client is to start quickly

    packet, output, *_ = socket.recv_fds(client, PACKET, 2)
    with quiet.native_output():
        for module in READY:
            importlib.import_module(module)
    kernel = os.fork()
    for source, target in zip(output, (1, 2), strict=True):
        if not kernel:
            os.dup2(source, target)
        os.close(source)
    return kernel, Request(*json.loads(packet))


def report_ended(kernels: Mapping[socket.socket, int]) -> list[socket.socket]:
    """Tell the clients whose kernels have ended their exit codes, and list these clients."""
    found = []
    for client, kernel in kernels.items():
        ended, status = os.waitpid(kernel, os.WNOHANG)
        if ended:
            found.append(client)
            with contextlib.suppress(OSError):  # it may be gone
                client.send(str(os.waitstatus_to_exitcode(status)).encode())
    return found


def kill(kernel: int) -> None:
    """Kill a kernel and the processes that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(kernel, signal.SIGKILL)


def become(request: Request) -> None:
    """Be the kernel that was asked for."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    sys.argv[:] = ["ipykernel_launcher.py", *request.arguments]
    from ipykernel import kernelapp

    kernelapp.launch_new_instance(parent_handle=os.getppid())  # without its parent it ends


if __name__ == "__main__":
    del sys.path[0]  # this folder, which a reader's kernel does not see
    role, *names = sys.argv[1:]
    if role == "ask":
        sys.exit(ask(*names))
    become(serve(*names))
