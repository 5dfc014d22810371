"""The web server: listens, answers until it is told to end."""

import contextlib
import importlib.util
import socket

LIBRARIES = {"starlette": "starlette", "uvicorn": "uvicorn", "vl_convert": "vl-convert-python"}
LOCAL = ("localhost", "127.0.0.1", "::1")
# After Ctrl-C, for answers that are under way.
SECONDS_TO_END = 5


def check_installed():
    """Raises ImportError if a library of the page is not there."""
    for module, package in LIBRARIES.items():
        if importlib.util.find_spec(module) is None:
            raise ImportError(
                f'The app needs {package}. Install it with `pip install "keras-gflv2[app]"`.'
            )


def is_local(host):
    """Whether only this machine reaches a server that listens there."""
    return host in LOCAL or host.startswith("127.")


@contextlib.contextmanager
def listen(host, port):
    """A socket that listens, closed in the end.

    Args:
        host: name or address of this machine.
        port: 0 for any that is free.

    Raises:
        OSError: nobody can listen there; the message says what to do.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.create_server(address[:2], family=family)
    except OSError as error:
        hint = "--port 0 takes one that is free" if error.errno else "see --host"
        raise OSError(
            f"It is not possible to listen at {host}, port {port} ({error.strerror or error}): "
            f"{hint}."
        ) from error
    with opened:
        yield opened


def address_of(opened, host):
    """The address of a socket's page, for a browser."""
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{opened.getsockname()[1]}"


def web_server(server, verbose=1):
    """The `uvicorn.Server` of a `Server`; with `verbose` 2 it prints a line for each request."""
    import uvicorn

    config = uvicorn.Config(
        server,
        lifespan="off",
        ws="none",
        log_level="info" if verbose > 1 else "error",
        server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_END,
    )
    return uvicorn.Server(config)


def serve(server, opened, verbose=1):
    """Answers requests until the process gets SIGINT or SIGTERM, and raises what these mean.

    Args:
        server: a `Server`.
        opened: the socket.
        verbose: see `web_server`.
    """
    try:
        web_server(server, verbose).run(sockets=[opened])
    finally:
        server.close()
    raise KeyboardInterrupt  # of a process that ignores SIGINT but for uvicorn, as in background
