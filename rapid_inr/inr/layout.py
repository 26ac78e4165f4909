"""Split rows of SIRENs into hidden weights, which are compressed, and ends (first and last layers and biases), and join them."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.rows import PackedRows
from kernels.spec import Section, SirenSpec, end_sections, weight_sections


def split_rows(rows: Tensor, spec: SirenSpec) -> tuple[Tensor, Tensor]:
    """Split flat rows [B, S] into hidden weights [B, (depth - 1) H^2] and the ends, in the order of `end_sections`."""
    sections = weight_sections(spec)

    def part(name: str) -> Tensor:
        return rows[:, sections[name].start : sections[name].stop]

    last = spec.depth
    hidden = [part(f"weight_{i}") for i in range(1, last)]
    biases = [part(f"bias_{i}") for i in range(last)]
    codes = torch.cat(hidden, 1) if hidden else rows.new_empty(len(rows), 0)
    return codes, torch.cat([part("weight_0"), *biases, part(f"weight_{last}"), part(f"bias_{last}")], 1)


def join_rows(hidden: Tensor, ends: Tensor, spec: SirenSpec) -> Tensor:
    """Undo `split_rows`."""
    rows = ends.new_empty(len(ends), spec.n_weights)
    sections, parts = weight_sections(spec), end_sections(spec)

    def put(name: str, values: Tensor) -> None:
        rows[:, sections[name].start : sections[name].stop] = values

    biases = _section(ends, parts["biases"]).unbind(1)
    for i, bias in enumerate(biases):
        put(f"bias_{i}", bias)
    for i, layer in enumerate(hidden.unflatten(1, (spec.depth - 1, -1)).unbind(1) if spec.depth > 1 else (), start=1):
        put(f"weight_{i}", layer)
    put("weight_0", ends[:, parts["first_weight"].start : parts["first_weight"].stop])
    put(f"weight_{spec.depth}", ends[:, parts["last_weight"].start : parts["last_weight"].stop])
    put(f"bias_{spec.depth}", ends[:, parts["last_bias"].start : parts["last_bias"].stop])
    return rows


def _section(ends: Tensor, section: Section) -> Tensor:
    return ends[:, section.start : section.stop].unflatten(1, section.shape)


def hidden_matrices(hidden: Tensor, spec: SirenSpec) -> Tensor:
    """View hidden weights or codes [B, (depth - 1) H^2] as [B, D-1, fan_in, fan_out]."""
    return hidden.reshape(len(hidden), spec.depth - 1, spec.hidden, spec.hidden)


def unquantized(rows: Tensor, spec: SirenSpec) -> PackedRows:
    """Return flat rows [B, S] in the packed layout, unquantized in float32."""
    hidden, ends = split_rows(rows, spec)
    return PackedRows(hidden, ends, scales=None, end_scales=None, bits=32)
