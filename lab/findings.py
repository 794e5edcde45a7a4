"""The campaign's results as people read them: the table, the sum, and docs/faults.md between its two marks."""

import time

from lab.bench import PROJECT, RATE

PAGE = PROJECT / "docs/faults.md"
BEGIN, END = "<!-- results: written by make campaign -->", "<!-- end of results -->"
HEAD = ("fault", "at", "hits", "exit", "finished by", "requests", "failed", "without a driver", "gap s", "without",
        "finished after s", "")


def table(rows):
    """Markdown, one row a case."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for row in rows:
        base, gaps = row["baseline_failed"], row["baseline_gaps"]
        lines.append("| " + " | ".join(map(str, (
            row["fault"] + (", held" if row["held"] else ""), row["moment"], row["target"], row["code"],
            ", ".join(f"{typed.split()[0]} {code}" for typed, code in row["finished"]) or "itself", row["requests"],
            row["failed"] if base else f"({row['failed']})", " ".join(map(str, base)) if base else "not judged",
            f"{row['gap']:.1f}", " ".join(f"{gap:.1f}" for gap in gaps) if gaps else "not judged", f"{row['seconds']:.0f}",
            "; ".join(row["broken"]) or "ok"))) + " |")
    return "\n".join(lines)


def summary(rows, wanted, seconds):
    broken = [row for row in rows if row["broken"]]
    counted = [row for row in rows if row["baseline_failed"] is not None]
    alike = sum(row["failed"] <= max(row["baseline_failed"]) for row in counted)
    return (f"{len(rows)} of {wanted} cases in {seconds / 60:.0f} min: {len(rows) - len(broken)} kept every law, {len(broken)} "
            f"broke one. {sum(row['requests'] for row in rows):,} requests; where traffic is judged "
            f"{sum(row['failed'] for row in counted):,} failed, in {alike} of {len(counted)} cases no more than the "
            f"baseline's worst. The longest way to a finished run took {max([row['seconds'] for row in rows], default=0):.0f} s")


def baseline_table(rows):
    head = ("fault", "hits", "stacks that serve", "failed in each run", "most a driver may have", "longest gap in each run, s")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in sorted({tuple(row["kind"]): row for row in rows}.values(), key=lambda row: row["kind"]):
        fault, hits, half = row["kind"]
        failed = row["failed"]
        lines.append(f"| {fault} | {hits or '-'} | {'one' if half == 'half' else 'both'} | {' '.join(map(str, failed))} | "
                     f"{max(failed) + max(failed) - min(failed)} | {' '.join(f'{gap:.1f}' for gap in row['gaps'])} |")
    return "\n".join(lines)


def write(rows, wanted, baselines, command):
    """Put date, command, sum and tables into the page, between its marks; the rest of it is people's.

    :param wanted: how many cases the campaign has.
    """
    text = PAGE.read_text()
    head, rest = text.split(BEGIN)
    seconds = max(row["at"] for row in rows) - min(row["at"] for row in rows)
    found = (f"{BEGIN}\n`{command}`, {time.strftime('%Y-%m-%d', time.gmtime())}, two cores, {RATE} requests a second.\n\n"
             f"{summary(rows, wanted, seconds)}.\n\n### Baselines\n{baseline_table(baselines)}\n\n### Cases\n{table(rows)}\n")
    PAGE.write_text(head + found + END + rest.split(END)[1])
