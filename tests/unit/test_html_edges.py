"""What the page says of an edge."""

from __future__ import annotations

from tests.support import pages
from whisper_parity.report.html import edges, page, recorded
from whisper_parity.run.folder import RunFolder


def test_causes_and_layers_of_a_row_without_a_difference_are_on_its_edge(tmp_path, cache_dir):
    """Of rows whose tokens changed, and of those whose tensors moved; all causes of each, escaped."""
    run = RunFolder(pages.write(tmp_path, cache_dir))
    found = recorded.load(run)
    (edge,) = (edges.edge(found, stage) for stage in found.edges if stage.spec == "tflite:int8")
    causes = {cause.unit: cause.clips for cause in edge.causes}
    assert causes == {"encoder.blocks.0": pages.NAMES[:1], "decoder.ln": pages.NAMES[1::-1]}
    assert sorted(layers.clip for layers in edge.layers) == sorted(pages.NAMES[:2])
    text = page.write(run).read_text("utf-8")
    assert text.count("<b><bdi>decoder.ln</bdi></b>") == 1


def test_the_rungs_of_an_edge_stand_in_the_order_of_the_flow(tmp_path, cache_dir):
    """Each with how many clips passed it and how many did not, and the reason of the worst."""
    found = recorded.load(RunFolder(pages.write(tmp_path, cache_dir)))
    by_stage = {stage.spec: edges.edge(found, stage).rungs for stage in found.edges}
    assert [rung.name for rung in by_stage["tflite:int8"]] == ["tensor", "logits", "token", "text"]
    token = next(rung for rung in by_stage["tflite:int8"] if rung.name == "token")
    assert (token.counts, token.css) == ((("fail", 4),), "diverged")
    assert "fault" in token.reason
    assert {rung.css for rung in by_stage["torchscript"]} == {"pass"}
