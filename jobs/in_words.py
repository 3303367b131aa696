"""What the commands found, in words for people. Each takes the report of its command."""

from typing import Any


def print_run(report: Any) -> None:
    lines = (
        {
            "ingest": f"{report.files_seen:,} files seen; {report.documents:,} documents written, {report.deleted:,} "
            f"deleted, {report.quarantined:,} files quarantined{' (see lakevec status)' if report.quarantined else ''}"
        },
        {
            "chunk": f"{report.chunks:,} chunks written",
            "embed": f"{report.embedded:,} texts embedded, {report.embeddings_reused:,} embeddings reused",
        },
        {"load": f"{report.loaded:,} rows loaded into Milvus, {report.removed:,} removed"},
    )
    of_stages = ["; ".join(words for stage, words in line.items() if stage in report.stages) for line in lines]
    told = "\n".join(filter(None, of_stages)) or "nothing was done"
    print(f"{told}; {report.seconds:.1f} s")
    if held_back := report.stages.get("ingest", {}).get("held_back"):
        print(f"the deletion of {held_back:,} files is held back (see lakevec status)")
    print_freshness(report.freshness)


def print_freshness(freshness: Any) -> None:
    if freshness.documents:
        print(
            f"{freshness.documents:,} documents searchable after {freshness.p50:,.1f} s (half of them), "
            f"{freshness.p95:,.1f} s (95 of 100), {freshness.p99:,.1f} s (99 of 100) from their file's modification"
        )


def print_size(report: Any) -> None:
    print(f"{report.documents:,} documents; {report.partitions:,} partitions by time")
    stages = ", ".join(f"{stage} {hours:,.1f}" for stage, hours in report.core_hours.items())
    print(f"core hours: {stages} (or {report.gpu_hours:,.2f} GPU hours)")
    print(
        f"within {report.hours:g} hours: {report.executors:,} executors of {report.cores_per_executor} cores and "
        f"{report.gpus:,} GPUs, or {report.cpu_executors:,} executors without a GPU"
    )
    if not report.is_own_rate:
        print(
            "Embedding is taken to be as quick as all-MiniLM-L6-v2's: --core-rate and --gpu-rate say what yours does."
        )
    print("memory of Milvus, by index:")
    for kind, size in report.memory_bytes.items():
        print(f"  {kind:<14}{size / 2**30:>10,.1f} GiB")


def print_retry(report: Any) -> None:
    if not report.files:
        print("No file is quarantined: there is nothing to read again.")
        return
    for file in report.files:
        what = f"{file.reason} ({file.attempts:,} attempts)" if file.reason else f"{file.documents:,} documents"
        print(f"{file.state:<12}{file.uri}" + ("" if file.state == "gone" else f"\n            {what}"))
    print_run(report.run)


def print_rebuild(report: Any) -> None:
    print(f"{report.rows:,} rows in {len(report.generations)} ranges; {report.seconds:.1f} s")
    for name, generation in report.generations.items():
        way = "written over in place" if name in report.patched else f"generation {generation}"
        print(f"  {name:<12}{way}")
    if report.patched:
        print("Nothing can be built on Milvus Lite, nor without load.staging: those ranges were written over in place.")


def print_forget(report: Any) -> None:
    rows = ", ".join(f"{number:,} of {table}" for table, number in report.rows.items())
    print(f"{report.uri}: {report.documents:,} documents forgotten")
    print(f"rows deleted: {rows}, {report.milvus_rows:,} in Milvus")
    print(f"{report.files_rewritten:,} data files rewritten, {report.files_removed:,} removed; {report.seconds:.1f} s")
    for title, lines in (
        ("verified", report.verified),
        ("not yet off the disks", report.pending),
        ("some of the same passages stay, in", report.copies),
    ):
        if lines:
            print(f"{title}:\n" + "\n".join(f"  {line}" for line in lines))


def print_hits(report: Any) -> None:
    for number, hit in enumerate(report.hits, 1):
        # A title is often the first heading as well.
        is_repeated = f"{hit.heading_path} > ".startswith(f"{hit.title} > ")
        place = hit.heading_path if is_repeated else " > ".join(filter(None, [hit.title, hit.heading_path]))
        page = f", page {hit.page}" if hit.page else ""
        print(f"{number}. {place}{page}")
        print(f"   {hit.uri}, characters {hit.start}-{hit.end}, {hit.doc_timestamp:%Y-%m-%d}, score {hit.score:.3f}")
        text = " ".join(hit.text.split())
        print(f"   {text[:300]}{'…' if len(text) > 300 else ''}\n")
    searched = ", ".join(report.partitions_searched) or "none"
    hits = f"{len(report.hits)} hit{'' if len(report.hits) == 1 else 's'}"
    print(f"{hits} in {report.seconds * 1000:.0f} ms; ranges searched: {searched}")


def print_status(report: Any) -> None:
    for name, table in report.tables.items():
        print(f"{name:<12}{table['rows']:>12,} rows   version {table['version']}")
    print(f"\n{report.collection} in Milvus")
    for name, rows in report.partitions.items():
        print(f"  {name:<12}{rows['milvus_rows']:>10,} of {rows['lake_rows']:,} rows   {rows['state']}")
    print_freshness(report.freshness)
    if report.held_back:
        print(f"\ndeletions held back: {report.held_back}")
    lags = {stage: "unknown" if lag is None else f"{lag} s" for stage, lag in report.lag_seconds.items()}
    print("\nlag  " + "  ".join(f"{stage} {lag}" for stage, lag in lags.items()))
    if report.quarantined:
        print(f"\n{len(report.quarantined)} files quarantined")
        for file in report.quarantined:
            print(f"  {file['uri']}\n    {file['reason']}")
            if file["documents"]:
                read = f"{file['answers_from']:%Y-%m-%d %H:%M}" if file["answers_from"] else "an earlier run"
                print(f"    {file['documents']:,} documents of its version from {read} still answer")


def print_verified(report: Any) -> None:
    # Spark comes with it: not for --help.
    from .lake.faults import FAULTS

    kinds = ("missing", "extra", "doubled", "different")
    rows = sum(numbers["milvus_rows"] for numbers in report.partitions.values())
    print(f"{rows:,} rows in Milvus, {len(report.partitions):,} time ranges; {report.sampled:,} rows compared whole")
    for name, numbers in report.partitions.items():
        wrong = ", ".join(f"{numbers[kind]:,} {kind}" for kind in kinds if numbers[kind])
        if wrong:
            print(f"  {name:<12}{numbers['milvus_rows']:>10,} of {numbers['lake_rows']:,} rows   {wrong}")
    for fault, number in report.lake.items():
        if number:
            print(f"  {number:,} {FAULTS[fault]}")
    for kind, keys in report.examples.items():
        print(f"  {kind}, such as {', '.join(keys)}")
    for stage, number in report.behind.items():
        print(f"  {number:,} changes wait for {stage}")
    for name in report.left_over:
        print(f"  {name} is left over: the next load drops it")
    for what, number in report.repaired.items():
        print(f"  repaired: {number:,} {what.replace('_', ' ')}")
    for line in report.advice:
        print(f"  {line}")
    if report.moved:
        print("  A run was writing all the while: what is wrong may be seen wrongly. Verify again when none does.")
    print(f"{verdict(report)}; {report.seconds:.1f} s")
    if not (report.ok or report.moved or report.repaired or report.advice):
        print("`lakevec verify --repair` mends it from the lake's tables alone.")


def verdict(report: Any) -> str:
    if report.current:
        return "all is well"
    if report.ok:
        return "equal, but for what waits"
    is_equal = not any((report.missing, report.extra, report.doubled, report.different, *report.lake.values()))
    return "equal, but for what is advised" if is_equal and report.advice else "NOT EQUAL"


def print_tuned(report: Any) -> None:
    print(f"{'setting':<52}{'recall@10':>10}{'95% interval':>20}{'p99 ms':>9}{'/s':>8}{'MiB':>8}")
    for each in report.measured:
        recall = each.recall
        print(
            f"{each.setting.name:<52}{recall.mean:>10.4f}{f'{recall.low:.4f} to {recall.high:.4f}':>20}"
            f"{each.p99_ms:>9.1f}{each.qps:>8,.0f}{each.memory / 2**20:>8,.1f}"
        )
    for each in report.skipped:
        named = " ".join(f"{key}={value}" for key, value in {**each.build, **each.search}.items())
        print(f"  not measured: {each.index_type} {named}: {each.reason}")
    champion = report.champion
    print(f"\nchosen: {champion.index_type} {champion.build} {champion.search}; {champion.why}")
    if report.applied:
        done = report.applied
        print(f"{'applied' if done.applied else 'NOT APPLIED'}: {done.why}")
        if done.recall_at_10 is not None:
            live = f"{done.recall_at_10:.4f} ({done.ci_low:.4f} to {done.ci_high:.4f})"
            memory = f"{done.memory_bytes / 2**20:,.1f} MiB"
            print(f"live: recall@10 {live}, p99 {done.p99_ms:.1f} ms, {memory}; {done.seconds:.0f} s")
    if report.ndcg_at_10:
        print("nDCG@10: " + ", ".join(f"{name} {value:.4f}" for name, value in report.ndcg_at_10.items()))
    print(
        f"registered as {champion.registered}, version {champion.version}; "
        f"run {report.parent_run_id} in {report.tracking_uri}"
    )
