"""make campaign: faults x moments of a run, each with traffic, judged by one checker; a table into docs/faults.md.

    python3 -m lab.campaign [--number N] [--seed S] [--labs 2] [--again]

Each case is kept as it ends (.lab/campaign/results.jsonl), so that a campaign that was killed goes on where it was; --again
begins anew. Exit code 1 if a law was broken.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict

from bgdeploy import errors, inventory
from lab import bench as benches, cases, findings, lab, trial, verdict

PLACE = benches.PROJECT / ".lab/campaign"
RESULTS, BASELINES, BROKEN = PLACE / "results.jsonl", PLACE / "baselines.jsonl", PLACE / "broken"
TRIES = 2           # a case that is over its baseline is tried again: a spread of three is a small one


def main(words):
    parser = argparse.ArgumentParser(prog="make campaign")
    parser.add_argument("--number", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--labs", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="forget what is known from before")
    parser.add_argument("--only", help="cases whose name has this text, again")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    chosen = cases.choose(cases.matrix(), asked.number, asked.seed)
    if asked.only:
        chosen = [case for case in cases.matrix() if asked.only in case.name]
    if asked.worker is not None:
        return work(asked, chosen[asked.worker::asked.labs])
    if asked.again and PLACE.exists():
        shutil.rmtree(PLACE)
    PLACE.mkdir(parents=True, exist_ok=True)
    if asked.only:
        keep([row for row in known(RESULTS) if asked.only not in row["case"]])
    labs = max(1, min(asked.labs, len(chosen)))
    print(f"{len(chosen)} cases in {labs} labs; {len(done(chosen))} are known already", flush=True)
    began = time.monotonic()
    workers = [subprocess.Popen(worker(asked, number, labs), cwd=benches.PROJECT) for number in range(labs)]
    codes = [one.wait() for one in workers]
    rows = done(chosen)
    table = findings.table(rows)
    print(table)
    print(findings.summary(rows, len(chosen), time.monotonic() - began))
    if asked.number is None and not asked.only and len(rows) == len(chosen):
        findings.write(rows, len(chosen), known(BASELINES), "make campaign")
    return 1 if any(codes) or any(row["broken"] for row in rows) or len(rows) < len(chosen) else 0


def worker(asked, number, labs):
    words = [word for name in ("number", "seed", "only") if getattr(asked, name) is not None
             for word in (f"--{name}", str(getattr(asked, name)))]
    return [sys.executable, "-m", "lab.campaign", "--worker", str(number), "--labs", str(labs), *words]


def work(asked, chosen):
    """One lab: its baselines, then its cases, one after the other."""
    todo = [case for case in chosen if case.name not in {row["case"] for row in done(chosen)}]
    if not todo:
        return 0
    site = described(f"campaign-{asked.worker}")
    try:
        bench = start(site)
        with bench:
            measure(bench, todo, asked.worker % 2 == 1)
            began = time.monotonic()
            for number, case in enumerate(todo, 1):
                row = attempt(bench, case)
                append(RESULTS, row)
                print(line(row, number, len(todo), began, asked.worker), flush=True)
                if not bench.whole():
                    print(f"lab {asked.worker} is made anew: {bench.trouble[-300:]}", flush=True)
                    lab.down(site, say=lambda text: None)
                    return subprocess.call(worker(asked, asked.worker, asked.labs), cwd=benches.PROJECT)
        return 0
    except (errors.Trouble, RuntimeError) as trouble:
        print(f"lab {asked.worker}: {trouble}", file=sys.stderr)
        return 3
    finally:
        lab.down(site, say=lambda text: None)


def described(name):
    """A lab of its own for a worker, from the lab's inventory."""
    file = benches.PROJECT / "inventories" / f"{name}.yml"
    file.write_text(benches.hasty(benches.named((file.parent / "lab.yml").read_text(), name)))
    return inventory.load(name, benches.PROJECT)


def start(site):
    """A lab with both versions published: the one that a killed campaign left, or a fresh one."""
    place = benches.PROJECT / ".lab" / site.name
    try:
        fresh = not lab.process(site)
        lab.up(site, say=lambda text: None)
    except errors.Refused:              # it is as an older campaign described it
        lab.down(site, say=lambda text: None)
        lab.up(site, say=lambda text: None)
        fresh = True
    if fresh:
        for left in ("state", "store"):
            shutil.rmtree(place / left, ignore_errors=True)
    lab.enter(site)
    bench = benches.Bench(site, place / "state")
    if len(list((place / "repo").glob("**/*.rpm"))) < len(benches.VERSIONS) * len(bench.components):
        bench.publish()
    return bench


def measure(bench, todo, turned):
    """The baselines that these cases need and nobody has measured: first with every stack live, then with one in standby.

    :param turned: from the other end, so that two labs meet in the middle.
    """
    if not bench.whole():
        raise RuntimeError(f"the first rollout did not make every stack live: {bench.trouble[-2000:]}")
    for half in ("all", "half"):
        wanted = {trial.classes(case) for case in todo} - {None} - set(baselines())
        wanted = sorted((kind for kind in wanted if kind[2] == half), reverse=turned)
        stack = next(iter(bench.stacks))
        if wanted and half == "half":
            bench.typed("standby", "--stack", stack)
        for kind in wanted:
            if kind not in baselines():         # the other lab may have been faster
                found = trial.baseline(bench, kind)
                append(BASELINES, {"kind": list(kind), **asdict(found)})
                print(f"baseline {' '.join(filter(None, kind))}: failed {list(found.failed)}, gaps {list(found.gaps)}",
                      flush=True)
        if wanted and half == "half":
            trial.brought_live(bench, stack)


def attempt(bench, case):
    """The row of a case; one that is only over its baseline is tried again, and counts by its better try."""
    kind, rows = trial.classes(case), []
    for number in range(TRIES):
        evidence, shown = trial.trial(bench, case, baselines().get(kind) if kind else None)
        broken = verdict.judge(evidence)
        if shown["notes"] and number + 1 < TRIES:
            broken = broken or ["retry"]
        base = evidence.baseline
        rows.append({"case": case.name, "fault": case.harm.fault, "moment": case.moment, "held": case.held, "kind": kind,
                     **shown, "broken": broken, "tries": number + 1, "at": round(evidence.since),
                     "baseline_failed": base and list(base.failed), "baseline_gaps": base and list(base.gaps)})
        if broken and broken != ["retry"]:
            keep_evidence(bench, case, number, evidence, rows[-1])
        if not broken or not all(sentence.startswith(("availability", "retry")) for sentence in broken) or not bench.whole():
            break
    return min(rows, key=lambda row: len(row["broken"])) if len(rows) > 1 else rows[0]


def keep_evidence(bench, case, number, evidence, row):
    place = BROKEN / f"{case.name.replace(', ', '--').replace(' ', '-')}-{number}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for run in evidence.runs:
        shutil.copytree(bench.state / "runs" / run, place / run, dirs_exist_ok=True)
    looks = [{"at": look.at, "instances": {"/".join(k): [i.word, i.version, i.start[:6]] for k, i in look.instances.items()},
              "pools": {"/".join(k): up for k, up in look.pools.items()}} for look in evidence.looks]
    (place / "looks.json").write_text("\n".join(json.dumps(look) for look in looks))
    (place / "failed.json").write_text("\n".join(json.dumps(asdict(s)) for s in evidence.samples if s.what))
    (place / "row.json").write_text(json.dumps(row, indent=1))


def line(row, number, count, began, worker):
    spent = time.monotonic() - began
    left = spent / number * (count - number)
    state = "ok" if not row["broken"] else "BROKEN " + "; ".join(row["broken"])
    done_by = ", ".join(f"{typed.split()[0]} {code}" for typed, code in row["finished"]) or "-"
    return (f"[lab {worker}: {number}/{count}, {left / 60:.0f} min left] {row['case']}: exit {row['code']}, then {done_by}; "
            f"{row['requests']} requests, failed {row['failed']}, gap {row['gap']:.1f} s, {row['seconds']:.0f} s"
            f"{' (' + ', '.join(row['notes']) + ')' if row['notes'] else ''}: {state}")


def append(path, row):
    """One line, whole or not at all, also with two labs writing."""
    with open(path, "ab") as file:
        file.write(json.dumps(row).encode() + b"\n")


def known(path):
    if not path.exists():
        return []
    rows = []
    for text in path.read_text().splitlines():
        try:
            rows.append(json.loads(text))
        except ValueError:
            continue                # torn by a kill
    return rows


def keep(rows):
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows))


def done(chosen):
    """The rows of these cases that are known, each by its last try, in the order of the cases."""
    last = {row["case"]: row for row in known(RESULTS)}
    return [last[case.name] for case in chosen if case.name in last]


def baselines():
    return {tuple(row["kind"]): verdict.Baseline(tuple(row["failed"]), tuple(row["gaps"])) for row in known(BASELINES)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
