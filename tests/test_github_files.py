"""The files for GitHub hold what GitHub needs, and fit the repository."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
FORMS = sorted(
    set((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) - {GITHUB / "ISSUE_TEMPLATE/config.yml"}
)


def read(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


def steps(workflow: str) -> list[dict[str, Any]]:
    jobs = read(GITHUB / "workflows" / workflow)["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def test_ci_tests_every_python_from_the_oldest_on_both_systems():
    matrix = read(GITHUB / "workflows/ci.yml")["jobs"]["tests"]["strategy"]["matrix"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f">={matrix['python'][0]}" == project["requires-python"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest"]
    # The combination that the matrix leaves out is the one that .ci/run has.
    assert matrix["exclude"] == [{"os": "ubuntu-latest", "python": "3.11"}]
    assert ".ci/run" in [step.get("run") for step in steps("ci.yml")]


def test_ci_types_the_test_command_of_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    (command,) = re.findall(r"^## Test it\n\n```sh\n(.*)\n```", readme, re.MULTILINE)
    commands = [step["run"] for step in steps("ci.yml") if "run" in step]
    assert command == " && ".join(commands[-2:])


def test_a_release_publishes_by_a_token_of_the_workflow_alone():
    publish = read(GITHUB / "workflows/release.yml")["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets." not in (GITHUB / "workflows/release.yml").read_text()


def test_all_distributions_have_one_version():
    folders = [ROOT, *(ROOT / "plugins").iterdir(), ROOT / "audit"]
    files = [folder / "pyproject.toml" for folder in folders if folder.is_dir()]
    projects = [tomllib.loads(file.read_text())["project"] for file in files]
    assert len(projects) > 5
    assert len({project["version"] for project in projects}) == 1
    assert read(ROOT / "CITATION.cff")["version"] == projects[0]["version"]


def test_a_release_builds_every_distribution_but_the_audits():
    (command,) = [
        step["run"] for step in steps("release.yml") if "pip wheel" in step.get("run", "")
    ]
    assert command.split()[-2:] == [".", "./plugins/*/"]
    audit = tomllib.loads((ROOT / "audit/pyproject.toml").read_text())["project"]
    # An index of packages refuses it, should somebody upload it by hand.
    assert "Private :: Do Not Upload" in audit["classifiers"]


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_a_form_has_a_name_and_asks_something_that_is_required(form: Path):
    content = read(form)
    assert content["name"]
    assert content["description"]
    ids = [field["id"] for field in content["body"] if field["type"] != "markdown"]
    assert len(ids) == len(set(ids))
    assert any(field.get("validations", {}).get("required") for field in content["body"])


def test_the_files_name_no_machine_and_no_host_of_packages():
    files = [*GITHUB.rglob("*.yml"), ROOT / "mkdocs.yml", ROOT / "CITATION.cff"]
    hosts = [
        found for file in files for found in re.findall(r"https?://[^\s\"']+", file.read_text())
    ]
    assert hosts == []
