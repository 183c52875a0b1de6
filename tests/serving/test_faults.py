"""The fault campaign, short, and that it can fail. By hand: python -m benchmarks.serving_faults --seconds 3600."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[2] / "benchmarks" / "serving_faults.py"
PLANTED = """
import sys
sys.path.insert(0, {folder!r})
import serving_faults
if {fault!r} == "wrong":
    serving_faults.KAPPAS = (7.0,)  # as if every answer were wrong
else:
    serving_faults.Faults.kill_a_process = lambda self: self._server.process.kill()
sys.argv[1:] = ["--seconds", "5", "--json"]
raise SystemExit(serving_faults.main())
"""


def account_of(*command):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_no_request_is_lost():
    code, account = account_of(str(CAMPAIGN), "--seconds", "4", "--json")  # longer: each kind of fault comes once
    assert account["lost"] == 0, account
    assert account["accepted"] == account["answered"] + account["refused"]
    assert account["answered"] > 100
    assert len(account["phases"]["faults"]["faults"]) == 12, account
    assert account["phases"]["full disk"]["faults"], account
    assert code == 0, account


@pytest.mark.long
@pytest.mark.parametrize("fault", ["wrong", "ended"])
def test_the_campaign_sees_a_planted_fault(fault):
    code, account = account_of("-c", PLANTED.format(folder=str(CAMPAIGN.parent), fault=fault))
    assert code == 1, account


@pytest.mark.long
def test_a_minute_of_faults():
    code, account = account_of(str(CAMPAIGN), "--seconds", "60", "--json")
    assert (code, account["lost"]) == (0, 0), account
