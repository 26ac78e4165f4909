"""Commands and small settings that the tests of several files share."""

from experiments import (
    benchmark,
    codec,
    compare,
    decode,
    demo,
    encode,
    export,
    info,
    merge,
    rate_distortion,
    report,
    segment,
    sweep,
    tables,
    train,
)

COMMANDS = {
    "encode": encode.run_encode, "merge": merge.run_merge, "decode": decode.run_decode, "info": info.run_info,
    "train": train.run_train, "demo": demo.run_demo, "benchmark": benchmark.run_benchmark, "tables": tables.run_tables,
    "codec": codec.run_codec, "sweep": sweep.run_sweep, "rate_distortion": rate_distortion.run_rate_distortion,
    "export": export.run_export, "report": report.run_report, "segment": segment.run_segment,
    "compare": compare.run_compare,
}  # fmt: skip
SMOKE = ("debug=smoke", "track=off")
SHAPES = ("dataset=shapes", "dataset.size=12", "dataset.count=9", "dataset.test_count=9")
TINY = (*SHAPES, "inr=2x8", *SMOKE)
