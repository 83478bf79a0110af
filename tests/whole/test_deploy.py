"""deploy/: what its files name exists, and its settings are ones that the daemon takes."""

import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from fastsmtp.process import config
from tests.support.daemon import ROOT

DEPLOY = ROOT / "deploy"

PROMTOOL = shutil.which("promtool", path=f"{ROOT}/.tools/prometheus/usr/bin") or shutil.which(
    "promtool"
)


def environment(pairs):
    """Variables that are settings, as the daemon reads them."""
    return {name: value for name, value in pairs.items() if name.startswith("FASTSMTP_")}


def test_the_compose_file_starts_a_daemon_that_publishes_to_its_broker():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    daemon = services["fastsmtp"]
    assert (DEPLOY / daemon["build"]["context"] / daemon["build"]["dockerfile"]).is_file()
    given = environment(daemon["environment"]) | environment(variables("ENV"))
    settings, warnings = config.load((), given)
    assert settings.rabbitmq_address == ("amqp://guest:guest@rabbitmq/",)
    assert "rabbitmq" in services
    assert [int(port.rpartition(":")[2]) for port in daemon["ports"]] == list(settings.smtp_port)
    assert str(settings.smtp_port[0]) in instructions("EXPOSE")
    (warning,) = warnings
    assert "anyone may connect" in warning  # the host's loopback only
    assert all(port.startswith("127.0.0.1:") for port in daemon["ports"])
    assert int(daemon["stop_grace_period"].rstrip("s")) > settings.smtp_grace + 15


def test_the_container_installs_the_package_and_runs_its_command():
    copied = [line.split()[-2] for line in instructions("COPY") if "--from" not in line]
    assert copied
    assert all((ROOT / source).exists() for source in copied)
    (entry,) = instructions("ENTRYPOINT")
    assert yaml.safe_load(entry)[0].endswith("/bin/fastsmtp")
    python = re.match(r"python:(\d+\.\d+)-slim", instructions("FROM")[0])
    assert python
    assert python[1] in ("3.11", "3.12", "3.13")
    assert all(python[0] in line for line in instructions("FROM"))


def instructions(name):
    text = (DEPLOY / "Containerfile").read_text()
    return re.findall(rf"^{name} (.+)$", text, re.MULTILINE)


def variables(name):
    return dict(pair.split("=", 1) for line in instructions(name) for pair in shlex.split(line))


@pytest.mark.skipif(not PROMTOOL, reason="needs promtool (Debian's prometheus)")
def test_the_alert_rules_pass_their_tests_and_each_has_one():
    folder = DEPLOY / "prometheus"
    done = subprocess.run(
        [PROMTOOL, "test", "rules", "alerts_test.yml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tests = yaml.safe_load((folder / "alerts_test.yml").read_text())["tests"]
    groups = yaml.safe_load((folder / "alerts.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    quiet = {test["alertname"] for test in tests[0]["alert_rule_test"] if "exp_alerts" not in test}
    assert quiet == alerts
    fires = str(tests[1]["promql_expr_test"])
    assert {alert for alert in alerts if f'"{alert}"' in fires} == alerts
