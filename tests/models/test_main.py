import subprocess
import sys


def test_help_is_quick_and_shows_examples():
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "models", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "python -m models train sentiment" in result.stdout
    assert "keras" not in result.stderr
    assert "tensorflow" not in result.stderr
