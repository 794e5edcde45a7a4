"""The look of report.html: one style sheet, no script, no outside font or picture; readable on paper and in the dark."""

STYLE = """
:root { --ink: #1d2733; --soft: #5b6776; --line: #dde3ea; --back: #f4f6f9; --card: #ffffff;
  --good: #1a7f4b; --warn: #9a6200; --bad: #b42318; --calm: #2f5fa8;
  --act: #2f5fa8; --chef: #e08a1e; --pool: #7b61c4; --drain: #2a9d8f; --wait: #a8b2bf; --own: #cfd7e1; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf1; --soft: #9aa7b6; --line: #2c3642; --back: #12171d; --card: #1a2129;
  --good: #4cc38a; --warn: #e0a93f; --bad: #ff7a6b; --calm: #7aa7ee; --act: #7aa7ee; --own: #3a4655; --wait: #5f6b79; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 48px; }
header { background: var(--card); border: 1px solid var(--line); border-left: 8px solid var(--tone); border-radius: 10px;
  padding: 22px 26px; }
h1 { margin: 0 0 6px; font-size: 26px; line-height: 1.25; letter-spacing: -.01em; }
h2 { margin: 34px 0 10px; font-size: 18px; }
.verdict { display: inline-block; background: var(--tone); color: var(--card); border-radius: 999px; padding: 2px 14px;
  margin-bottom: 10px;
  font-weight: 650; font-size: 14px; }
.good { --tone: var(--good); } .warned { --tone: var(--warn); } .bad { --tone: var(--bad); } .calm { --tone: var(--calm); }
p { margin: 0 0 6px; } .soft { color: var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: 4px 26px; margin-top: 12px; color: var(--soft); font-size: 14px; }
.facts b { color: var(--ink); font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 14px; }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.figure b { display: block; font-size: 24px; line-height: 1.3; font-weight: 650; white-space: nowrap; }
.figure span { color: var(--soft); font-size: 13px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px; overflow-x: auto; }
.row { display: grid; grid-template-columns: 150px 1fr 92px; gap: 12px; align-items: center; min-height: 27px; }
.row.fresh { border-top: 1px solid var(--line); padding-top: 8px; margin-top: 8px; min-height: 36px; }
.row > :first-child { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; } .row i { font-style: normal;
  color: var(--soft); }
.row > :last-child { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.track { position: relative; height: 15px; border-radius: 4px; background: var(--back); }
.track span { position: absolute; top: 0; bottom: 0; min-width: 2px; border-radius: 2px; }
.scale { display: flex; justify-content: space-between; color: var(--soft); font-size: 12px; }
.own { background: var(--own); } .act { background: var(--act); } .chef { background: var(--chef);
  } .pool { background: var(--pool); }
.drain { background: var(--drain); } .host, .soak, .person, .wait { background: var(--wait); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 12px; color: var(--soft); font-size: 13px; }
.legend span::before { content: ""; display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px;
  background: var(--tone); vertical-align: -1px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); padding: 4px 14px 6px 0;
  white-space: nowrap; }
td { border-bottom: 1px solid var(--line); padding: 6px 14px 6px 0; vertical-align: top; } tr:last-child td { border-bottom: 0; }
td.num, th.num { padding-right: 22px; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.name { white-space: nowrap; } td.new { font-weight: 650; }
.word { color: var(--tone); font-weight: 650; white-space: nowrap; }
code, pre { font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
pre { margin: 6px 0 0; padding: 10px 12px; background: var(--back); border: 1px solid var(--line); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.card + p { margin-top: 8px; } ul { margin: 0; padding-left: 20px; } li { margin: 2px 0; }
footer { margin-top: 36px; color: var(--soft); font-size: 13px; }
@media (max-width: 640px) { .row { grid-template-columns: 104px 1fr 70px; gap: 8px; } main { padding: 14px 10px 30px; } }
@media print { body { background: #fff; font-size: 11pt; } main { max-width: none; padding: 0; } h2 { break-after: avoid; }
  .card, .figure, header, tr, .row { break-inside: avoid; } * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
"""
