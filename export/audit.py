"""A line of JSON for each release: who did what to which model, and when."""

import datetime
import getpass
import json
import os
from pathlib import Path

AUDIT_FILE = "audit.log"


def record(repository: Path, action: str, model: str, **details: object) -> None:
    """Appends a line to the repository's log.

    Args:
        repository: folder of the models.
        action: what was done, as the command is called.
        model: the model.
        details: what else should be known of it.
    """
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "user": _user(),
        "action": action,
        "model": model,
        **details,
    }
    repository.mkdir(parents=True, exist_ok=True)
    # One write of a short line to a file that is only appended to is not mixed with another's.
    with (repository / AUDIT_FILE).open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # a container's user may have no name
