"""The page's style sheet. Two palettes; charts take their colours from it."""

STYLE = """\
:root {
  --page: #fbfbfa; --panel: #ffffff; --ink: #1d2126; --soft: #5c6670; --line: #e3e5e8; --grid: #eceef0;
  --base: #4a76b8; --adapted: #c05a1c; --baseline: #8b939c; --accent: #6d5aa8; --good: #1f7a46; --bad: #b3372f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --panel: #1b1f23; --ink: #e4e7ea; --soft: #9aa4ae; --line: #2c3238; --grid: #262b31;
    --base: #86aee6; --adapted: #ef9457; --baseline: #7e8892; --accent: #a999de; --good: #6cc58f; --bad: #f0857c;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 40px 28px 80px; max-width: 1120px; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; font-variant-numeric: tabular-nums;
}
h1 { margin: 0; font-size: 30px; line-height: 1.2; letter-spacing: -0.01em; text-wrap: balance; }
h2 { margin: 0 0 14px; font-size: 20px; letter-spacing: -0.005em; }
h3 { margin: 22px 0 6px; font-size: 16px; }
p { margin: 0 0 10px; }
a { color: var(--base); }
code { font: 12.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.lead { margin: 6px 0 22px; color: var(--soft); font-size: 16px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(232px, 1fr)); gap: 14px; }
.card { padding: 16px 18px; background: var(--panel); border: 1px solid var(--line); border-radius: 10px; }
.card p { margin: 0; }
.what { color: var(--soft); font-size: 13px; }
.card .value { margin: 4px 0 6px; font-size: 23px; font-weight: 650; letter-spacing: -0.01em; overflow-wrap: anywhere; }
.card .text { color: var(--soft); font-size: 13px; line-height: 1.6; }
nav {
  display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 26px 0 0; padding: 12px 0; border-block: 1px solid var(--line); font-size: 14px;
}
nav a { color: var(--soft); text-decoration: none; }
nav a:hover { color: var(--ink); text-decoration: underline; }
section { padding: 34px 0 6px; }
.scroll { overflow-x: auto; margin: 0 0 12px; }
table { border-collapse: collapse; min-width: min(100%, 620px); font-size: 14px; }
th, td { padding: 7px 16px 7px 0; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; font-size: 13px; }
th:last-child, td:last-child { padding-right: 2px; }
.wrap { display: block; width: max-content; max-width: 20em; white-space: pre-wrap; overflow-wrap: anywhere; }
.num { text-align: right; padding-left: 18px; }
.note { color: var(--soft); font-size: 13px; margin: 6px 0 12px; }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 14px; margin: 14px 0; align-items: start;
}
.figures > figure:only-child { max-width: 540px; }
figure { margin: 0; padding: 14px 16px 10px; background: var(--panel); border: 1px solid var(--line); border-radius: 10px; min-width: 0; }
section > figure { margin: 12px 0; }
figcaption { margin-bottom: 8px; font-weight: 600; font-size: 14px; }
figure .note { margin: 8px 0 2px; }
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--soft); font-size: 14px; padding: 4px 0; }
.badge {
  display: inline-block; padding: 0 7px; border: 1px solid currentColor; border-radius: 999px;
  font-size: 12px; font-weight: 400; line-height: 1.55; white-space: nowrap; color: var(--soft);
}
.badge.good { color: var(--good); }
.badge.bad { color: var(--bad); }
svg.chart { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; paint-order: stroke; stroke: var(--panel); stroke-width: 3px; }
svg text.label { fill: var(--ink); font-size: 12.5px; }
svg text.mid, svg text.axis, svg text.cell { text-anchor: middle; }
svg text.end { text-anchor: end; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.thin { stroke-width: 1.5; }
.mean { stroke-width: 3; }
.dashed { stroke-dasharray: 4 5; stroke-width: 1.5; }
.grid { fill: none; stroke: var(--grid); }
.axis-line { fill: none; stroke: var(--line); }
.zero { fill: none; stroke: var(--soft); stroke-dasharray: 3 4; }
.line.base { stroke: var(--base); } .line.adapted { stroke: var(--adapted); }
.line.baseline { stroke: var(--baseline); } .line.accent { stroke: var(--accent); }
.dot.base { fill: var(--base); } .dot.adapted { fill: var(--adapted); } .dot.baseline { fill: var(--baseline); }
.dot { fill-opacity: 0.85; stroke: var(--panel); stroke-width: 1; }
.fill.adapted { fill: var(--adapted); } .fill.accent { fill: var(--accent); }
svg.heat { display: block; width: 100%; height: auto; margin: 0 auto 8px; }
svg.heat text { font-size: 11.5px; stroke: none; }
svg.heat text.cell { font-size: 10px; fill: var(--ink); }
svg.heat text.strong { fill: var(--page); font-weight: 600; }
.frame { fill: var(--panel); stroke: var(--line); }
.legend {
  display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 6px 0 0; padding: 0; list-style: none; color: var(--soft); font-size: 13px;
}
.legend .key { width: 18px; height: 8px; margin-right: 6px; vertical-align: middle; }
.bars {
  display: grid; grid-template-columns: max-content 1fr max-content; column-gap: 12px;
  margin: 4px 0; padding: 0; list-style: none; font-size: 13px;
}
.bars li { display: grid; grid-column: 1 / -1; grid-template-columns: subgrid; align-items: center; line-height: 1.7; }
.bars .value { text-align: right; color: var(--soft); }
.bars .name { max-width: min(44vw, 260px); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.track { display: block; }
.bar { display: block; height: 9px; min-width: 1px; border-radius: 2px; }
.bar.base { background: var(--base); } .bar.adapted { background: var(--adapted); } .bar.baseline { background: var(--baseline); }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 10px 20px; margin: 16px 0; font-size: 13px; }
.facts div { min-width: 0; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 560px) {
  body { padding: 24px 16px 60px; }
  h1 { font-size: 25px; }
  svg text { font-size: 15px; }
  svg text.label { font-size: 15px; }
  figure { padding: 12px 10px 8px; }
}
@media print { nav { display: none; } section { break-inside: avoid; } }
"""
