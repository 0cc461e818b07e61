r"""Serves a page on which a checkpoint names the patches of any image.

python -m clippy_jax.demo --checkpoint=runs/shapes
python -m clippy_jax.demo --checkpoint=clippy_5k.pt --second_checkpoint=runs/b16 --port=8000
"""

import importlib.util
import os
import pathlib
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence

from clippy_jax.command_line import Parser, announce
from clippy_jax.errors import InputError, exit_with_one_line

PROGRAM = "python -m clippy_jax.demo"
LOOPBACK = "127.0.0.1"
GRADIO = "gradio>=6.31,<7"
SHAPES_VOCABULARY = 128  # pieces of text; a checkpoint with no more knows Shapes alone, and no photographs


def flags() -> Parser:
    """The program's flags."""
    parser = Parser(PROGRAM, "Serves a page on which a checkpoint names the patches of any image.", __doc__)
    parser.add_argument("--checkpoint", required=True, help="workdir, converted folder, .pt or .safetensors")
    parser.add_argument("--second_checkpoint", help="another one, to see side by side with the first")
    parser.add_argument("--tokenizer", help="Sentence-T5 folder, for a checkpoint that carries none")
    parser.add_argument("--host", default=LOOPBACK, help="address to serve on; 0.0.0.0 lets other machines in")
    parser.add_argument("--port", type=int, default=7860, help="port to serve on (7860)")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the command, loads the checkpoints and serves the page until it is interrupted."""
    args = flags().parse_args(arguments)
    if importlib.util.find_spec("gradio") is None:
        raise InputError(f'the demo needs Gradio, which is not installed: pip install "{GRADIO}"')
    _check_address(args.host, args.port)
    # Imported here so that a wrong command is answered at once.
    import clippy_jax
    from clippy_jax.analysis.embedder import Embedder
    from clippy_jax.demo.examples import write_examples

    announce()
    checkpoints = [args.checkpoint, *([args.second_checkpoint] if args.second_checkpoint else [])]
    models = [clippy_jax.load(path, args.tokenizer) for path in checkpoints]
    for path, model in zip(checkpoints, models):
        print(f"{path}: {model}", flush=True)
    embedders = [Embedder(model, path) for path, model in zip(checkpoints, models)]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as by Ctrl+C, so that the folder is removed
    with tempfile.TemporaryDirectory(prefix="clippy_demo_") as folder:
        _set_up_gradio(folder, args.host)
        from clippy_jax.demo import page

        photographs = all(model.config.text.vocabulary_size > SHAPES_VOCABULARY for model in models)
        blocks = page.build(embedders, write_examples(pathlib.Path(folder), photographs))
        if args.host != LOOPBACK:
            print("Whoever reaches this machine's port can use the page: it asks for no password", file=sys.stderr)
        page.serve(blocks, args.host, args.port)


def _set_up_gradio(folder: str, host: str) -> None:
    """Sets what Gradio reads when it is imported: nothing is sent or fetched, and uploads go into a folder."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_TEMP_DIR": folder}
    # Gradio asks its own server whether it is there, which no proxy can tell.
    direct = [LOOPBACK, "localhost", host, *filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy")])]
    os.environ |= {"NO_PROXY": ",".join(direct), "no_proxy": ",".join(direct)}


def _check_address(host: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise InputError(f"--port={port} must be from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"--host={host} --port={port} cannot be served on ({error.strerror}); "
                f"choose another port, for example --port={port % 65535 + 1}"
            ) from None


if __name__ == "__main__":
    main()
