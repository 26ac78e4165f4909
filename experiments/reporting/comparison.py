"""Compare runs: the settings that differ, means over seeds, and differences from a baseline with Welch's p."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence

import pandas as pd

from experiments.reporting.cells import Difference, Measured, formatted, measured, natural
from rapid_inr.errors import UserError
from rapid_inr.evaluation.units import unit_of

BOOKKEEPING = re.compile(  # settings that change no result, or that another key shows better
    r"(.*\.)?seed|run_dir|folder|overwrite|out|resume|baseline|keep_shards|stores_dir|launcher|inr\.(depth|hidden)|dataset\.download|(track|roots|labels)\..*"
)
WORDS = ("and", "or", "not", "in", "True", "False", "None")  # of a query
HEADLINES = (  # the metrics to show first
    "top1_pct", "decoded_top1_pct", "psnr_db", "ssim", "bpp", "rgb_pct", "loss", "images_per_s", "encode_ms_per_image",
)  # fmt: skip
FACTS = ("run", "path", "verb", "status", "experiment", "preset", "started", "commit", "code", "command", "machine", "warnings")


def short_names(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with settings renamed: without ``cfg.``, unless another column has that name.

    Returns:
        The runs; ``attrs["settings"]`` lists the names of the settings.
    """
    labels = [name.removeprefix("cfg.labels.") for name in runs if name.startswith("cfg.labels.")]
    others = set(runs) - set(labels)  # where a setting has a label's name, the label is `labels.NAME`
    short = {name: name.removeprefix("cfg.").removesuffix(".name") for name in runs if name.startswith("cfg.")}
    short = {name: name if new in others else new for name, new in short.items()}
    renamed = runs.drop(columns=[label for label in labels if label in short.values()]).rename(columns=short)
    renamed.attrs["settings"] = list(short.values())
    return renamed


def resolve(runs: pd.DataFrame, name: str) -> str:
    """Return the column of this name, or the only one whose name ends with it.

    Raises:
        UserError: if no column fits; the message names the nearest.
    """
    longer = [full for full in runs if full.endswith(f".{name}")]
    if name in runs or len(longer) == 1:
        return name if name in runs else longer[0]
    near = longer or difflib.get_close_matches(name, list(runs), n=3)
    raise UserError(f"no run has {name}" + (f"; did you mean {' or '.join(near)}?" if near else ""))


def query(runs: pd.DataFrame, expression: str) -> pd.DataFrame:
    """Return the runs for which an expression of `DataFrame.query` is true. Dotted names need no backticks; `resolve` finds them.

    Raises:
        UserError: if the expression is none, or names what no run has.
    """

    def column(match: re.Match[str]) -> str:
        name, dot, method = match[0].partition(".str.")  # text methods: run.str.contains('x')
        return match[0] if name[0] in "'\"`" or name in WORDS else f"`{resolve(runs, name)}`{dot}{method}"

    names = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`|(?<![\w.)])[A-Za-z_][\w.]*", column, expression)
    try:
        return runs[runs.eval(names, engine="python", local_dict={}, global_dict={})]
    except UserError:
        raise
    except Exception as error:  # pandas raises any of Python's exceptions
        raise UserError(f"{expression} is no query of the runs: {type(error).__name__}: {error}") from None


def differing(runs: pd.DataFrame, settings: Sequence[str]) -> list[str]:
    """Return the settings in which runs differ, without seeds and bookkeeping. Runs that lack a whole group do not count."""
    shown = [key for key in settings if not BOOKKEEPING.fullmatch(key) and key in runs]
    groups = {key.partition(".")[0] for key in settings if "." in key}
    readers = {group: runs[runs.filter(regex=rf"^{group}\.").notna().any(axis=1)] for group in groups}
    differ = [key for key in shown if texts(readers.get(key.partition(".")[0], runs)[key]).nunique(dropna=False) > 1]
    return sorted(differ, key=lambda key: "." in key)  # inr, dataset and the like first


def without_result(runs: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """Return the runs that did not finish, but for those that a finished run with the same seeds, labels and settings repeats."""
    told = [key for key in settings if key.endswith("seed") or key.startswith("labels.") or not BOOKKEEPING.fullmatch(key)]
    own = runs.reindex(columns=["verb", "experiment", "preset", "seed", *told]).astype(str).to_numpy()
    same, done = pd.Series([*map(tuple, own)], runs.index, dtype=object), runs.status == "finished"
    return runs[~done & ~same.isin(same[done])]


def texts(values: pd.Series) -> pd.Series:
    """Return values as texts, or None. Integers that pandas made floats become integers again."""
    return values.map(lambda value: formatted(value, ""), na_action="ignore")


def telling(runs: pd.DataFrame, keys: Sequence[str], most: int) -> list[str]:
    """Return at most `most` keys: first those that tell apart rows which the keys before them do not."""
    chosen: list[str] = []
    for key in keys if len(keys) > most else ():
        if len(runs[[*chosen, key]].map(str).drop_duplicates()) > (len(runs[chosen].map(str).drop_duplicates()) if chosen else 1):
            chosen.append(key)
    return [*chosen, *(key for key in keys if key not in chosen)][:most]


def mixes_code(runs: pd.DataFrame, keys: Sequence[str]) -> bool:
    """Return whether some row would average finished runs of different code."""
    done = runs[runs.status == "finished"]
    groups = done.groupby([texts(done[key]) for key in keys] or (lambda _: 0), dropna=False)
    return "code" not in keys and "code" in done and bool((groups.code.nunique() > 1).any())


def metrics_of(runs: pd.DataFrame, settings: Sequence[str]) -> list[str]:
    """Return the names of the metrics of finished runs, `HEADLINES` first."""
    done = runs[runs.status == "finished"]
    others = [
        name for name in runs if name not in (*settings, *FACTS, "seed", "seconds", "dirty") and not name.startswith("version.")
    ]
    found = [name for name in others if measured(done[name], 0)]
    return sorted(found, key=lambda name: HEADLINES.index(name) if name in HEADLINES else len(HEADLINES))


def grouped(runs: pd.DataFrame, keys: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return a row for each combination of keys, in natural order: ``n`` finished runs, ``status``, and a mean a metric.

    Returns:
        The rows; their column ``runs`` is the index of a row's runs in `runs`.
    """
    rows = []
    for values, group in runs.groupby([texts(runs[key]) for key in keys] or (lambda _: 0), dropna=False):
        done, counts = group[group.status == "finished"], group.status.value_counts()
        status = counts.index[0] if len(counts) == 1 else ", ".join(f"{n} {name}" for name, n in counts.items())
        row = dict(zip(keys, values, strict=True)) if keys else {}
        cells = {metric: measured(done[metric], _digits(metric, done[metric])) for metric in metrics}
        rows.append(row | {"n": len(done), "status": status} | cells | {"runs": group.index, "run": group.run.iloc[0]})
    rows.sort(key=lambda row: [natural(row[key]) for key in keys])
    count = "n" if any(len(row["runs"]) > 1 for row in rows) else "run"
    return pd.DataFrame(rows, columns=list(dict.fromkeys([*keys, count, "status", *metrics, "runs"])), dtype=object)


def in_order(table: pd.DataFrame, key: str, *, falling: bool) -> pd.DataFrame:
    """Return the rows sorted by a key or the mean of a metric; those that lack it come last."""
    values = table[key].map(lambda cell: cell.mean if isinstance(cell, Measured) else cell)
    present = values.dropna()
    order = present.map(lambda value: value if isinstance(value, float) else natural(value)).to_dict()
    ordered = sorted(order, key=order.get, reverse=falling)
    return table.loc[[*ordered, *values.index[values.isna()]]].reset_index(drop=True)


def averaged_over(table: pd.DataFrame, runs: pd.DataFrame, keys: Sequence[str], settings: Sequence[str]) -> list[str]:
    """Return the settings in which the runs of a row differ."""
    rows = [runs.loc[row].query("status == 'finished'") for row in table.runs]
    return list(dict.fromkeys(key for row in rows for key in differing(row, settings) if key not in keys))


def label_of(row: pd.Series, keys: Sequence[str]) -> str:
    """Return the name of a row for a legend."""
    told = ", ".join(f"{key.removeprefix('labels.')}={row[key]}" for key in keys if isinstance(row[key], str)) or "all"
    return told if row.status == "finished" else f"{told} ({row.status})"


def _digits(metric: str, values: pd.Series) -> int:
    """Return the digits of a metric: dB and percent to the hundredth, counts in full, others to four figures."""
    one = measured(values, 0)
    if one is None or unit_of(metric) in ("dB", "%"):
        return 2
    if abs(one.mean) >= 1000 or one.mean.is_integer():
        return 0
    return 3 - math.floor(math.log10(abs(one.mean)))


def with_differences(
    table: pd.DataFrame, runs: pd.DataFrame, keys: Sequence[str], metrics: Sequence[str], baseline: str
) -> pd.DataFrame:
    """Return the rows with a column ``Δ METRIC`` after each metric.

    Args:
        baseline: a cell of the baseline's row, a label or the name of one of its runs, or a query. If it fits several rows, each
            row is compared with the one that has the same values in the keys by which these differ.

    Raises:
        UserError: if it fits no row, or several that no other row agrees with.
    """
    base_of = _base_of(table, runs, keys, baseline)
    for metric in metrics:
        pairs = [
            ("baseline" if base == i else None if base is None else _difference(own, table[metric][base]))
            for i, (own, base) in enumerate(zip(table[metric], base_of, strict=True))
        ]
        table.insert(table.columns.get_loc(metric) + 1, f"Δ {metric}", pd.Series(pairs, table.index, dtype=object))
    return table


def _base_of(table: pd.DataFrame, runs: pd.DataFrame, keys: Sequence[str], baseline: str) -> list[int | None]:
    """Return the row that each row is compared with; see `with_differences`."""
    names = [
        {*map(str, row[keys]), *runs.run[row.runs], *(run.rpartition("/")[2] for run in runs.run[row.runs])}
        for _, row in table.iterrows()
    ]
    bases = table[[baseline in of_row for of_row in names]]
    if bases.empty:
        labelled = runs.filter(regex=r"^labels\.").astype(str).eq(baseline).any(axis=1)
        meant = query(runs, baseline).index if re.search(r"[=<>]", baseline) else runs.index[labelled]
        bases = table[[row.runs.isin(meant).all() for _, row in table.iterrows()]]
    if bases.empty:
        cells = sorted({str(cell) for key in keys for cell in table[key]} - {"nan", "None"})
        raise UserError(
            f"baseline={baseline} is no row of this table; name a cell of it ({', '.join(cells[:12])}), a label, a run "
            f"({runs.run.iloc[0]}), or a query (codec == 'raw')"
        )
    between = [key for key in keys if bases[key].nunique(dropna=False) > 1]
    own = {tuple(map(str, row[between])): i for i, row in bases.iterrows()}
    base_of = [own.get(tuple(map(str, row[between]))) for _, row in table.iterrows()]
    others = [base for i, base in zip(table.index, base_of, strict=True) if i not in bases.index]
    if len(bases) > 1 and not any(base is not None for base in others):
        several = "; ".join(", ".join(f"{key}={row[key]}" for key in between) for _, row in bases.iterrows())
        raise UserError(f"baseline={baseline} fits {len(bases)} rows ({several}), and no other row agrees with any; name one")
    return base_of


def _difference(own: Measured | None, other: Measured | None) -> Difference | None:
    if own is None or other is None:
        return None
    p = None
    if own.n > 1 and other.n > 1 and (own.std or other.std):
        from scipy.stats import ttest_ind_from_stats

        sides = (value for side in (own, other) for value in (side.mean, side.std, side.n))
        p = float(ttest_ind_from_stats(*sides, equal_var=False).pvalue)
    return Difference(own.mean - other.mean, own.mean / other.mean if other.mean else None, p, own.digits)
