"""What CI reads: Markdown, JUnit XML, annotations, JSON Schema, workflow files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml
from click import Context, Group

from tests.support import runs
from tests.support.checkout import CHECKOUT
from whisper_parity.cli import main
from whisper_parity.gate.result import GateResult, RuleResult
from whisper_parity.report import ci, json_schema, junit, markdown
from whisper_parity.system import serial

HOSTILE = (
    "<script>alert(1)</script> | `x` [a](http://evil) ![i](x) @team #1 www.evil.org\n# head \x1b[31m \u202e ::error::"
)
RULES = (
    RuleResult("faults", "torchscript->tflite", "", "at most 0", "0 faults", True, (), "default"),
    RuleResult("text_rate", "torchscript->tflite", "en", "at most 0.00%", HOSTILE, False, ("one",), "parity.toml"),
    RuleResult("kl_max", "torchscript->tflite", "", "not judged", "none", True, (), "default"),
)
GATE = GateResult("made", False, 1, f"failed: 1 of 2 rules: {HOSTILE}", RULES, (), (f"expected: {HOSTILE}",))


@pytest.fixture
def hostile():
    """A run with a text and a reason from somebody who means harm, and a cell that failed."""
    whole = runs.with_row(runs.report(), "two", "torchscript", text=HOSTILE)
    return runs.failed(whole, "one", "tflite", HOSTILE)


def test_markdown_says_verdict_rules_and_cells(hostile):
    """The sentence first, failed rules before all rules, each cell, what failed."""
    page = markdown.render(hostile, GATE)
    assert page.startswith("## ❌ parity gate failed&#58; 1 of 2 rules&#58;")
    assert page.index("### Rules that failed") < page.index("All 3 rules") < page.index("### 3 clips, 3 stages")
    assert "| one | ⚪ reference | ✅ pass WER 0.0%" in page
    assert "- **one** tflite&#58;" not in page
    assert "- **one** tflite: " in page
    assert markdown.render(runs.report(), None).startswith("## ✅ parity pass")


def test_markdown_of_hostile_text_is_text(hostile):
    """No tag, link, image, mention, issue number, autolink, border or line break from outside."""
    page = markdown.render(hostile, GATE)
    body = re.sub(r"</?(details|summary)>", "", page)
    assert "<" not in body
    assert not re.search(r"\]\(|http:|www\.|`|\x1b|\u202e|@team|#1\b", body)
    assert re.search(r"&#64;&#8203;team &#35;&#8203;1 www&#8203;\.evil\.org", page)
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert all(line.startswith(("## ", "### ")) for line in headings)
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {9, 5}


def test_markdown_cuts_what_is_too_long():
    """A page has a limit; a transcript has none."""
    assert len(markdown.escape("x" * 10_000)) <= markdown.LONGEST + 1


def test_junit_has_a_case_for_each_cell_and_rule(hostile):
    """Well formed whatever the text; failures are of the model, errors of the machine, rules that are off skipped."""
    suite = ET.fromstring(junit.render(hostile, GATE)).find("testsuite")
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "12", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    cases = {case.get("name"): case for case in suite}
    assert cases["text_rate[torchscript->tflite,en]"].find("failure").get("message").startswith("<script>")
    assert "clips: one" in cases["text_rate[torchscript->tflite,en]"].find("failure").text
    assert cases["tflite-one"].find("error") is not None
    facts = {each.get("name"): each.get("value") for each in cases["tflite-two"].find("properties")}
    assert facts == {"clip": "two", "stage": "tflite", "verdict": "pass", "label": "tflite (test)"}


def test_junit_of_a_divergence():
    """A failure; where a gate has judged, left to its rules, as under pytest."""
    whole = runs.report({("two", "tflite"): runs.saying("Ask not")})
    alone, gated = (ET.fromstring(junit.render(whole, gate)).find("testsuite") for gate in (None, GATE))
    assert (alone.get("failures"), alone.get("skipped")) == ("1", "0")
    assert (gated.get("failures"), gated.get("skipped")) == ("1", "2")


def test_annotations_end_where_they_should(hostile):
    """One line each; nothing from outside starts a command of its own."""
    lines = ci.commands(hostile, GATE)
    assert len(lines) == 1
    assert lines[0].startswith("::error title=parity text_rate torchscript->tflite::<script>")
    assert "\n" not in lines[0]
    many = replace(GATE, rules=(RULES[1],) * 14)
    assert len(ci.commands(hostile, many)) == 11
    assert ci.commands(hostile, many)[-1] == "::error title=parity::4 more"
    assert ci.commands(hostile, None)[0].startswith("::error title=parity one tflite::failed: <script>")


def test_a_summary_only_where_one_is_asked_for(hostile, tmp_path, monkeypatch, capsys):
    """GITHUB_STEP_SUMMARY names a file that others write into, too; GITHUB_ACTIONS asks for annotations."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    ci.announce(hostile, GATE)
    assert capsys.readouterr().out == ""
    (tmp_path / "summary.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ci.announce(hostile, GATE)
    assert (tmp_path / "summary.md").read_text("utf-8") == "before\n" + markdown.render(hostile, GATE) + "\n"
    assert capsys.readouterr().out.startswith("::error title=")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "nowhere" / "summary.md"))
    ci.announce(hostile, GATE)
    assert "the summary cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(json_schema.FILES))
def test_published_schemas_are_up_to_date(name):
    """Made from the dataclasses: `python -m whisper_parity.report.json_schema` writes them anew."""
    published = (CHECKOUT / "docs" / name).read_text("utf-8")
    assert published == json_schema.dumps(*json_schema.FILES[name])
    jsonschema.Draft202012Validator.check_schema(json.loads(published))


def validate(name: str, text: str) -> None:
    """Validate JSON by a published schema."""
    jsonschema.Draft202012Validator(json.loads((CHECKOUT / "docs" / name).read_text("utf-8"))).validate(
        json.loads(text)
    )


def test_reports_validate(hostile):
    """What is written keeps the schema, infinities and failures included; what lacks a field does not."""
    same = runs.report({("two", "tflite"): lambda t: runs.trace_as("torchscript", t)})
    for whole in (hostile, same):
        validate("report.schema.json", serial.dumps(whole))
    assert '"Infinity"' in serial.dumps(same)
    validate("gate.schema.json", serial.dumps(GATE))
    lacking = json.loads(serial.dumps(hostile))
    del lacking["verdict"]
    with pytest.raises(jsonschema.ValidationError):
        validate("report.schema.json", json.dumps(lacking))


@pytest.mark.parametrize("file", ["github-actions.yml", "gitlab-ci.yml"])
def test_workflow_files_parse_and_name_commands_that_exist(file):
    """Ready to copy: YAML, and every parity command and option in it is one of ours."""
    text = (CHECKOUT / "docs" / "ci" / file).read_text("utf-8")
    jobs = yaml.safe_load(text)
    assert jobs
    lines = [line for block in _scripts(jobs) for line in block.splitlines()]
    commands = [words for line in lines for words in re.findall(r"\bparity ([a-z]+)([^|&;]*)", line)]
    assert isinstance(main, Group)
    for name, options in commands:
        command = main.get_command(Context(main), name)
        assert command is not None, name
        known = {option for each in command.params for option in each.opts}
        assert set(re.findall(r"--[a-z-]+", options)) <= known, (name, options)
    gates = [line for line in lines if "--parity-gate" in line]
    assert len(gates) == 1
    assert "-m parity" in gates[0]
    assert "--junitxml" in gates[0]
    known = _pytest_options()
    assert set(re.findall(r"--parity-[a-z-]+", gates[0])) <= known


def _scripts(node: object) -> list[str]:
    """All shell text of a workflow."""
    if isinstance(node, str):
        return []
    if isinstance(node, list):
        return [text for each in node for text in ([each] if isinstance(each, str) else _scripts(each))]
    assert isinstance(node, dict)
    runs_here = [value for key, value in node.items() if key == "run" and isinstance(value, str)]
    return runs_here + [text for value in node.values() if not isinstance(value, (str, int, bool)) and value is not None
                        for text in _scripts(value)]  # fmt: skip


def _pytest_options() -> set[str]:
    from whisper_parity.run.options import OPTIONS

    return {f"--parity-{option.flag[2:]}" for option in OPTIONS.values()} | {"--parity-gate", "--parity-approved"}


def test_the_published_paths_exist():
    """Where the documentation points."""
    for name in ("gating.md", "ci/github-actions.yml", "ci/gitlab-ci.yml"):
        assert Path(CHECKOUT / "docs" / name).is_file()
