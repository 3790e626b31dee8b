"""Units of a graph by its structure: cuts of the residual stream that feed a normalisation."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from whisper_parity.backends.split import stream
from whisper_parity.backends.split.stream import NORM, OTHER, PASS, PRODUCT, SCALE, SHAPE, SUM, Flow, Node, Tap
from whisper_parity.errors import UnavailableError
from whisper_parity.model.dims import Dims

DIMS = Dims(80, 1500, 64, 2, 2, 51865, 448, 64, 2, 1)


@dataclass
class Drawing:
    """A graph that is written op by op; constants are numbers below zero."""

    nodes: list[Node] = field(default_factory=list)
    last: int = 9
    """Inputs are 0 to 9."""
    fused: set[int] = field(default_factory=set)

    def op(self, role: str, *taken: int) -> int:
        self.last += 1
        self.nodes.append(Node(role, taken, (self.last,)))
        return self.last

    def norm(self, value: int, *, whole: bool = True) -> int:
        if whole:
            value = self.op(NORM, value, -1, -2)
            self.fused.add(value)
            return value
        centred = self.op(OTHER, value, self.op(NORM, value))
        variance = self.op(NORM, self.op(SCALE, centred, centred))
        return self.op(SUM, self.op(SCALE, self.op(SCALE, centred, self.op(OTHER, variance)), -1), -2)

    def attention(self, value: int, other: int | None = None, *, norm: bool = True, **how: bool) -> int:
        normal = self.norm(value, **how) if norm else value
        key = normal if other is None else other
        scores = self.op(PRODUCT, self.op(PRODUCT, normal, -1), self.op(PRODUCT, key, -2))
        return self.op(SUM, value, self.op(PRODUCT, self.op(PRODUCT, self.op(OTHER, scores), key), -3))

    def mlp(self, value: int, *, skip: bool = True, norm: bool = True, **how: bool) -> int:
        normal = self.norm(value, **how) if norm else value
        inner = self.op(PRODUCT, self.op(OTHER, self.op(PRODUCT, normal, -1)), -2)
        return self.op(SUM, value, inner) if skip else self.op(SUM, inner, -4)


def encoder(**how: bool) -> tuple[Drawing, dict[str, int]]:
    """Two blocks behind a convolution."""
    drawing, ends = Drawing(), {}
    ends["encoder.conv"] = drawing.op(OTHER, drawing.op(PRODUCT, 0, -1))
    ends["encoder.positions"] = value = drawing.op(SUM, ends["encoder.conv"], -5)
    for layer in range(2):
        ends[f"encoder.blocks.{layer}.attn"] = value = drawing.attention(drawing.op(PASS, value), **how)
        ends[f"encoder.blocks.{layer}"] = value = drawing.mlp(value, **how)
    ends["encoder.ln_post"] = drawing.norm(value, **how)
    return drawing, ends


def decoder(*, affine: bool = True, positions: bool = True) -> tuple[Drawing, dict[str, int]]:
    """One block; input 1 is what it attends to."""
    drawing = Drawing()
    ends = {"decoder.positions": drawing.op(SUM, 0, -5) if positions else 0}
    ends["decoder.blocks.0.attn"] = drawing.attention(ends["decoder.positions"])
    ends["decoder.blocks.0.cross_attn"] = drawing.attention(ends["decoder.blocks.0.attn"], 1)
    ends["decoder.blocks.0"] = value = drawing.mlp(ends["decoder.blocks.0.cross_attn"])
    if affine:
        ends["decoder.ln"] = value = drawing.norm(value)
    else:
        value = drawing.op(OTHER, value, drawing.op(NORM, value))
    ends["decoder.logits"] = drawing.op(PRODUCT, drawing.op(PASS, value), -1)
    return drawing, ends


def found(drawing: Drawing, component: str, inputs=(0,)) -> dict[str, int]:
    output = drawing.nodes[-1].outputs[0]
    taps = stream.found(drawing.nodes, inputs, output, drawing.fused, component, DIMS, "file")
    assert [tap.before for tap in taps[1:]] == [tap.behind for tap in taps[:-1]]
    return {tap.unit: tap.behind for tap in taps}


@pytest.mark.parametrize("how", [{}, {"whole": False}], ids=["norms in one op", "norms taken apart"])
def test_an_encoder_is_told_apart(how):
    """Every unit and sublayer, whatever the norms are made of."""
    drawing, ends = encoder(**how)
    assert found(drawing, "encoder") == ends


@pytest.mark.parametrize("inputs", [(0, 1), (1, 0)])
def test_a_decoder_is_told_apart_whatever_the_order_of_its_inputs(inputs):
    """The stream begins at the input from which the norms follow each other."""
    drawing, ends = decoder()
    assert found(drawing, "decoder", inputs) == ends


def test_positions_that_are_added_outside_end_at_the_input():
    """The unit is there, and computes nothing."""
    drawing, ends = decoder(positions=False)
    assert found(drawing, "decoder", (0, 1)) == ends


def test_a_last_norm_without_its_scale_belongs_to_the_projection():
    """Folded into the projection's weights, it is no value of the checkpoint's."""
    drawing, ends = decoder(affine=False)
    assert found(drawing, "decoder", (0, 1)) == ends
    assert "decoder.ln" not in ends


def test_a_lost_skip_connection_moves_no_unit():
    """What is inside a unit is cut then, too, and feeds no norm."""
    drawing = Drawing()
    value = drawing.op(SUM, 0, -5)
    blocks = drawing.mlp(drawing.attention(drawing.attention(value), 1), skip=False)
    ln = drawing.norm(blocks)
    drawing.op(PRODUCT, ln, -1)
    ends = found(drawing, "decoder", (0, 1))
    assert (ends["decoder.blocks.0"], ends["decoder.ln"]) == (blocks, ln)


@pytest.mark.parametrize("lost", ["attn", "mlp", "last"])
def test_a_norm_that_is_left_out_moves_no_unit(lost):
    """Sublayers are told by their sums; the last norm is a unit that gives what it takes."""
    drawing = Drawing()
    value = drawing.op(SUM, 0, -5)
    expected = {"decoder.positions": value}
    value = drawing.attention(value, norm=lost != "attn")
    expected["decoder.blocks.0.attn"] = value
    expected["decoder.blocks.0.cross_attn"] = value = drawing.attention(value, 1)
    expected["decoder.blocks.0"] = value = drawing.mlp(value, norm=lost != "mlp")
    expected["decoder.ln"] = value = value if lost == "last" else drawing.norm(value)
    expected["decoder.logits"] = drawing.op(PRODUCT, value, -1)
    assert found(drawing, "decoder", (0, 1)) == expected


def test_a_norm_more_moves_no_unit():
    """A stream that is normalised twice at its end."""
    drawing, ends = encoder()
    twice = drawing.norm(drawing.last)
    assert found(drawing, "encoder") == {**ends, "encoder.ln_post": twice}


def test_positions_that_are_added_twice_are_not_the_convolutions():
    """Of sums in a row, what the first one adds to is the convolutions' output."""
    drawing = Drawing()
    conv = drawing.op(OTHER, drawing.op(PRODUCT, 0, -1))
    value = drawing.op(SUM, drawing.op(SUM, conv, -5), -5)
    for _ in range(2):
        value = drawing.mlp(drawing.attention(value))
    drawing.norm(value)
    assert found(drawing, "encoder")["encoder.conv"] == conv


def test_shapes_that_are_read_cross_no_cut():
    """The size of an early value, used late, carries no number of it."""
    drawing, ends = encoder()
    late = drawing.op(SHAPE, 0)
    drawing.op(PASS, ends["encoder.ln_post"], late)
    assert found(drawing, "encoder") == {**ends, "encoder.ln_post": drawing.last}


def test_another_number_of_sublayers_is_refused():
    """With both numbers."""
    drawing, _ = decoder()
    with pytest.raises(UnavailableError, match="expected 5 normalisations of one residual stream in the encoder, fou"):
        found(drawing, "encoder", (0, 1))


def test_a_block_that_is_left_out_is_counted():
    """An encoder of one block, where two are expected."""
    drawing = Drawing()
    drawing.norm(drawing.mlp(drawing.attention(drawing.op(SUM, drawing.op(PRODUCT, 0, -1), -5))))
    with pytest.raises(UnavailableError, match=r"found 3, which are those of 1 blocks where the checkpoint has 2$"):
        found(drawing, "encoder")


def test_what_passes_beside_a_value_is_no_cut():
    """Two ways from one value to the output."""
    nodes = [Node(OTHER, (0,), (1,)), Node(OTHER, (1,), (2,)), Node(SUM, (1, 2), (3,)), Node(OTHER, (9,), (4,))]
    assert Flow(nodes, 0, 3).cuts == (0, 1, 3)
    assert Flow(nodes, 9, 3).cuts == ()


def test_wanted_units_begin_where_the_wanted_one_before_ended():
    """Those between belong to them; the last is always there."""
    chain = (Tap("a", 0, 1), Tap("b", 1, 2), Tap("c", 2, 3), Tap("d", 3, 4))
    assert stream.selected(chain, ["a", "c"]) == (Tap("a", 0, 1, "a"), Tap("c", 1, 3, "c"), Tap("d", 3, 4, "d"))


def test_what_is_not_told_apart_is_fed_as_the_first_of_both():
    """A norm inside the projection: what goes in is the norm's input."""
    chain = (Tap("blocks", 0, 1), Tap("logits", 1, 2))
    selection = stream.selected(chain, ["blocks", "ln", "logits"])
    assert selection == (Tap("blocks", 0, 1, "blocks"), Tap("logits", 1, 2, "ln"))
