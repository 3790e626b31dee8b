"""What a file's own names say: the tensor that a parameter's path stands for, openai's spelling or Hugging Face's."""

from __future__ import annotations

import re
from collections.abc import Iterable

SPELLINGS = (
    (r"\blayers\.(?=\d)", "blocks."),
    (r"\bself_attn_layer_norm\b", "attn_ln"),
    (r"\bencoder_attn_layer_norm\b", "cross_attn_ln"),
    (r"\bfinal_layer_norm\b", "mlp_ln"),
    (r"\bself_attn\b", "attn"),
    (r"\bencoder_attn\b", "cross_attn"),
    (r"\bq_proj\b", "query"),
    (r"\bk_proj\b", "key"),
    (r"\bv_proj\b", "value"),
    (r"\bout_proj\b", "out"),
    (r"\bfc1\b", "mlp.0"),
    (r"\bfc2\b", "mlp.2"),
    (r"\bembed_positions\.weight\b", "positional_embedding"),
    (r"\bembed_tokens\b", "token_embedding"),
    (r"\bproj_out\b", "projection"),
)
"""Names of Hugging Face's modules, and of ours, in openai's spelling."""


def tensor(names: Iterable[str], component: str, tensors: frozenset[str]) -> str:
    """The checkpoint's tensor that a constant's names stand for; "" where they say nothing, or nothing definite.

    Args:
        names: of the constant.
        component: "encoder" or "decoder", for paths that begin inside one; "" where it is not known.
        tensors: names of the checkpoint's tensors.
    """
    meant = {spelt for name in names if (spelt := _spelt(name, component, tensors))}
    return meant.pop() if len(meant) == 1 else ""


def _spelt(name: str, component: str, tensors: frozenset[str]) -> str:
    for pattern, spelling in SPELLINGS:
        name = re.sub(pattern, spelling, name)
    if component == "encoder":
        name = re.sub(r"\blayer_norm\b", "ln_post", name)
    parts = re.sub(r"\blayer_norm\b", "ln", name).split(".")
    for start in range(len(parts)):  # the longest ending that is a tensor's name, whatever it is wrapped in
        ending = ".".join(parts[start:])
        if ending in tensors:
            return ending
        if component and f"{component}.{ending}" in tensors:
            return f"{component}.{ending}"
        if ending == "projection.weight" and "decoder.token_embedding.weight" in tensors:
            return "decoder.token_embedding.weight"
    return ""
