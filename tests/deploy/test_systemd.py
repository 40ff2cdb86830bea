"""The units of `deploy/systemd`: understood by systemd, hardened, and true to the settings."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from ai_proxy_service.settings import ProxySettings
from credits_service.settings import CreditsSettings
from service_kit.settings import CommonSettings

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
SERVICES: dict[str, type[CommonSettings]] = {
    "ai-proxy-service": ProxySettings,
    "credits-service": CreditsSettings,
}
# systemd's own measure, 0 to 100; "OK" ends at 50, an untouched unit has 96.
EXPOSURE_MAX = 20


def text_of(service: str) -> str:
    return (ROOT / "deploy" / "systemd" / f"{service}.service").read_text(encoding="utf-8")


def values(service: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text_of(service), re.MULTILINE)


def systemd_analyze(*arguments: str) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed; what the units say is checked without it")
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_systemd_understands_every_unit(tmp_path: Path) -> None:
    copies = []
    for unit in UNITS:
        copy = tmp_path / unit.name
        # It insists on programs that are there.
        text = re.sub(r"(?m)^ExecStart=.*", "ExecStart=/bin/true", unit.read_text())
        copy.write_text(text)
        copies.append(str(copy))

    assert systemd_analyze("verify", "--man=no", *copies) == ""


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_hardly_exposed(service: str) -> None:
    unit = ROOT / "deploy" / "systemd" / f"{service}.service"

    systemd_analyze("security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", str(unit))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_no_privileges_and_leaves_no_core_file(service: str) -> None:
    for name, value in {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "CapabilityBoundingSet": "",
        "LimitCORE": "0",
        "LimitNOFILE": "65536",
        "UMask": "0077",
        "KillSignal": "SIGTERM",
        "StateDirectoryMode": "0700",
    }.items():
        assert values(service, name) == [value], name


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_longer_to_stop_than_it_takes(service: str) -> None:
    fields = SERVICES[service].model_fields
    own = fields["shutdown_delay_seconds"].default + fields["drain_seconds"].default * 1.5

    (seconds,) = values(service, "TimeoutStopSec")
    assert int(seconds) >= own + 15


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_s_command_and_folder_are_its_own(service: str) -> None:
    project = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text())

    (command,) = values(service, "ExecStart")
    assert Path(command).name in project["project"]["scripts"]
    (folder,) = values(service, "StateDirectory")
    assert values(service, "Environment") == [f"DATA_DIR=%S/{folder}"]
    # Keys stand in a file that root alone can read, and not in the unit.
    (file,) = values(service, "EnvironmentFile")
    assert file.startswith("/etc/prepaid-ai-gateway/")


def test_timers_start_units_that_are_there() -> None:
    names = {unit.name for unit in UNITS}
    timers = [unit for unit in UNITS if unit.suffix == ".timer"]

    assert len(timers) == 2
    for timer in timers:
        assert f"{timer.stem}.service" in names
        script = re.findall(r"^ExecStart=.*/(\w+\.sh)$", text_of(timer.stem), re.MULTILINE)
        assert (ROOT / "deploy" / "backup" / script[0]).exists()
