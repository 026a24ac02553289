"""What ends the program from outside."""

import signal
import subprocess
import sys

from launch.cli import EXIT_STOPPED

# As a shell starts what runs in the background, where Ctrl-C is ignored.
PROGRAM = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
from launch import cli
def work(**_):
    print("at work", flush=True)
    time.sleep(60)
cli.app.cli = work
cli.main()
"""


def test_a_run_in_the_background_ends_when_it_is_told_to():
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"at work\n"
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=60)
        assert running.returncode == EXIT_STOPPED
        assert b"--resume" in out + err
