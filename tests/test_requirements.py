"""The locked requirements of each Python hold what requirements.txt pins, and all else that it brings, with hashes."""

import pathlib
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]


def requirements(path: pathlib.Path) -> list[Requirement]:
    lines = path.read_text().replace("\\\n", " ").splitlines()
    return [
        Requirement(line)
        for line in (re.sub(r"\s(--hash|#).*", "", line).strip() for line in lines)
        if line[:1] not in "#-"
    ]


def pins(path: pathlib.Path, environment: dict[str, str]) -> dict[str, str]:
    held = [one for one in requirements(path) if one.marker is None or one.marker.evaluate(environment)]
    return {canonicalize_name(one.name): str(one.specifier) for one in held}


@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_locked_requirements_are_those_that_are_pinned(version, platform):
    environment = {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": platform}
    environment |= {"platform_system": platform.capitalize(), "platform_machine": "x86_64"}
    wanted = pins(ROOT / "requirements.txt", environment)
    locked = pins(ROOT / "requirements" / f"{version}.txt", environment)
    assert wanted.items() <= locked.items(), "run make lock"
    assert {"tensorstore", "jaxlib", "protobuf", "ml-dtypes"} <= locked.keys()
    assert all(re.fullmatch(r"==[\w.]+", pin) for pin in locked.values())


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_package_has_hashes_and_no_file_names_a_host(version):
    text = (ROOT / "requirements" / f"{version}.txt").read_text()
    packages = [block for block in re.split(r"\n(?=\S)", text.strip())]
    assert len(packages) > 100 and all("--hash=sha256:" in package for package in packages)
    assert "://" not in text and "--index" not in text and "--find-links" not in text
