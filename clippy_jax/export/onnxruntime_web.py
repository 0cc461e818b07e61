"""The files of onnxruntime-web that a page needs, out of its npm package."""

import contextlib
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

from clippy_jax.errors import InputError, reading

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
# JavaScript with its WebAssembly on CPUs: runs in every browser, and rounds alike in all.
FILES = ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm")
INSTALLED = pathlib.Path("node_modules", "onnxruntime-web")


def read_runtime(path: str | None) -> dict[str, bytes]:
    """The contents of the files, by their names.

    Args:
      path: the package as a folder or as a `.tgz` of `npm pack`; by default the one in `node_modules` of the current
        folder, or else a download by npm of the version that this project is tested with.

    Raises:
      InputError: it is not there, or something else, or npm cannot get it.
    """
    if path is None and INSTALLED.is_dir():
        path = str(INSTALLED)
    if path is None:
        with tempfile.TemporaryDirectory() as folder:
            return _read_archive(_download(folder))
    folder = pathlib.Path(path)
    if not folder.is_dir():
        return _read_archive(folder)
    with _boundary(folder):
        return {pathlib.PurePath(name).name: (folder / name).read_bytes() for name in FILES}


def _download(folder: str) -> pathlib.Path:
    instead = f"or get the package elsewhere (npm pack {PACKAGE}) and add --runtime=FILE.tgz"
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(
            f"export web needs the npm package onnxruntime-web and finds no npm; install Node.js, {instead}"
        )
    command = [npm, "pack", PACKAGE, "--silent", f"--pack-destination={folder}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise InputError(f"npm cannot get {PACKAGE} ({reason}); check the network, {instead}")
    return next(pathlib.Path(folder).glob("*.tgz"))


def _read_archive(path: pathlib.Path) -> dict[str, bytes]:
    contents = {}
    with _boundary(path), tarfile.open(path, "r:gz") as archive:
        for name in FILES:
            file = archive.extractfile(f"package/{name}")
            if file is None:
                raise KeyError(f"{name} is no file")
            contents[pathlib.PurePath(name).name] = file.read()
    return contents


def _boundary(path: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    what = f"is not the npm package onnxruntime-web {VERSION}"
    return reading(f"--runtime={path}", f"see npm pack {PACKAGE}", what)
