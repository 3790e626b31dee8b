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
    units = [(causes.clip, [cause.unit for cause in causes.named]) for causes in edge.causes]
    assert sorted(units) == sorted(
        [(pages.NAMES[0], ["encoder.blocks.0", "decoder.ln"]), (pages.NAMES[1], ["decoder.ln"])]
    )
    assert sorted(layers.clip for layers in edge.layers) == sorted(pages.NAMES[:2])
    text = page.write(run).read_text("utf-8")
    assert text.count("<b><bdi>decoder.ln</bdi></b>") == 2
