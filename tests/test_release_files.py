"""What stands outside of the package for a release: workflows, the container, templates."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def parsed(path):
    return pytest.importorskip("yaml").safe_load(path.read_text())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_states_its_rights_and_the_versions_of_its_actions(path):
    workflow = parsed(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"].startswith("${{ github.workflow }}")
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.search(r"@(v\d+|release/v\d+)$", step.get("uses", "none@v0"))


@pytest.mark.parametrize("name", ["docs", "release"])
def test_a_fork_publishes_nothing_and_no_two_publish_at_once(name):
    workflow = parsed(ROOT / ".github" / "workflows" / f"{name}.yml")
    publish = workflow["jobs"]["publish"]
    assert "!github.event.repository.fork" in publish["if"]
    lock = publish.get("concurrency", workflow["concurrency"])
    assert "github.ref" not in lock["group"]
    assert lock["cancel-in-progress"] is False


def test_a_release_is_published_without_a_token():
    workflow = parsed(ROOT / ".github" / "workflows" / "release.yml")
    publish = workflow["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"]
    assert "secrets." not in json.dumps(workflow["jobs"])


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_of_issues_can_be_read(path):
    template = parsed(path)
    if path.stem != "config":
        assert all(part["attributes"]["label"] for part in template["body"])
        assert len({part["id"] for part in template["body"]}) == len(template["body"])


def test_what_the_container_copies_is_sent_to_it():
    text = (ROOT / "Dockerfile").read_text()
    sent = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [name for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE) for name in line.split()]
    assert len(copied) >= 5
    assert set(copied) == set(sent)
    assert all((ROOT / name).exists() for name in copied)
    # The last user is who runs it.
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] != "root"


def test_the_container_for_development_is_a_stage_of_the_dockerfile():
    settings = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert f"AS {settings['build']['target']}\n" in (ROOT / "Dockerfile").read_text()
