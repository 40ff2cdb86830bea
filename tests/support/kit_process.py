"""The kit's app as a process."""

from pathlib import Path

from support.kit_app import KEY
from support.processes import ServiceProcess

TESTS = Path(__file__).resolve().parents[1]


def kit_process(folder: Path, **settings: str) -> ServiceProcess:
    """Start the app with settings by their names in the environment."""
    return ServiceProcess(
        "python",
        {
            "PYTHONPATH": str(TESTS),
            "API_KEYS": f"tester:{KEY}",
            "DATA_DIR": str(folder),
            **settings,
        },
        "-m",
        "support.kit_app",
    )
