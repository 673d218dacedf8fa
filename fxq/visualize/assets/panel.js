// The panel beside the graph: all that is known of the selected box.

const KIND_WORDS = { weight_only: "float; its weights are stored in few bits", dynamic: "int8; quantizes what it reads as it arrives", shape: "makes no tensor", input: "input of the model", output: "result of the model" };

function panelHtml(stageNumber, box) {
  const stage = STAGES[stageNumber];
  return typeof box === "string" ? framePanel(stage, box) : cardPanel(stage, stage.cards[box], stageNumber);
}

function section(title, body) {
  return body ? `<section><h3>${title}</h3>${body}</section>` : "";
}

function table(rows) {
  const filled = rows.filter(([, value]) => value !== undefined && value !== "" && value !== null);
  return filled.length ? `<dl>${filled.map(([name, value]) => `<dt>${name}</dt><dd>${value}</dd>`).join("")}</dl>` : "";
}

function heading(title, chips, below) {
  return `<button id="close" title="close  ( Esc )">×</button><h2>${escaped(title)}</h2><p class="chips">${chips}</p>${below ? `<p class="path">${escaped(below)}</p>` : ""}`;
}

function chip(category, text = category) {
  return `<span class="tag ${category}">${escaped(text)}</span>`;
}

function cardPanel(stage, card, stageNumber) {
  const cost = costOf(card);
  const link = (number) => `<a href="#" data-go="${number}">${escaped(stage.cards[number].id)}</a>`;
  const list = (values) => values.map((value) => `<li>${escaped(value)}</li>`).join("");
  const group = DATA.groups[card.group];
  return [
    heading(card.title, chip(card.kind) + (KIND_WORDS[card.kind] ? ` <span>${KIND_WORDS[card.kind]}</span>` : ""), card.id),
    card.reason ? `<section class="why"><h3>Stays float: ${escaped(card.reason.why)}</h3><p>${escaped(card.reason.detail)}</p></section>` : "",
    section("Value", table([["type", escaped(shapeText(card.type))], ["quantized", escaped(card.spec)], ...scaleRows(card.scale)]) + histogram(group, card.scale)),
    section("Layer", table([["is", escaped(card.what)], ["module", escaped(card.path)], ["source", escaped(card.source)], ["rule", escaped(card.rule)], ["input", escaped(card.input_spec)], ["weight", escaped(card.weight_spec)]])),
    section("Made of", card.calls.length > 1 ? `<ol>${list(card.calls)}</ol>` : ""),
    section("Not fused", card.refusals.length ? `<ul>${list(card.refusals)}</ul>` : ""),
    section("Cost", table(costRows(cost))),
    section("Compiled kernel", (cost.kernels || []).map(kernelHtml).join("")),
    section("As text", `<pre>${escaped(card.text)}</pre>`),
    section("Reads", card.reads.map(link).join(", ")),
    section("Read by", stage.readers[stage.number.get(card.id)].map(link).join(", ")),
    section("At the other stages", journey(card, stageNumber)),
  ].join("");
}

function scaleRows(scale) {
  return scale ? [["scale", short(scale.scale)], ["zero point", scale.zero_point], ["range", `${short(scale.low)} … ${short(scale.high)}`]] : [];
}

function costRows(cost) {
  return [
    ["MACs", cost.macs ? `${engineering(cost.macs)}${cost.share ? ` (${(100 * cost.share).toFixed(1)} %)` : ""}` : ""],
    ["weights", cost.bytes ? `${engineering(cost.bytes)}B` : ""],
    ["latency", cost.ms === undefined ? "" : `${cost.ms.toPrecision(3)} ms`],
    ["SQNR, alone", cost.sqnr === undefined ? "" : DB(cost.sqnr)],
    ["SQNR, so far", cost.sqnr_so_far === undefined ? "" : DB(cost.sqnr_so_far)],
  ];
}

// Gemm(isa=..., x=Layout(...), ...) → one parameter a line, and the instructions
function kernelHtml(call) {
  const { kernel, assembly } = DATA.codes[call.code];
  const [, family, inside] = kernel.match(/^(\w+)\((.*)\)$/s) || [null, kernel, ""];
  let depth = 0;
  const parameters = [...inside].map((mark) => {
    depth += "([".includes(mark) - ")]".includes(mark);
    return mark === "," && depth === 0 ? ",\n" : mark;
  }).join("").replaceAll("\n ", "\n");
  const folded = (title, text) => (text ? `<details><summary>${title}</summary><pre>${escaped(text)}</pre></details>` : "");
  return table([["kernel", escaped(family)], ["program", `${escaped(call.region)}, stage ${call.stage}`], ["parts", `${call.units} for threads to share`]])
    + folded("parameters", parameters) + folded(`assembly, ${assembly.split("\n").length} lines`, assembly);
}

// Bars of what calibration saw; what the chosen range cuts off is shaded.
function histogram(seen, scale) {
  if (!seen) return "";
  const range = `${short(seen.low)} … ${short(seen.high)}`;
  if (!seen.counts || !seen.counts.length) return table([["seen", range]]);
  const [width, height] = [300, 90];
  const end = seen.start + seen.width * seen.counts.length;
  const [left, right] = [Math.min(seen.start, scale?.low ?? seen.start), Math.max(end, scale?.high ?? end)];
  const x = (value) => ((value - left) / (right - left)) * width;
  const most = Math.log1p(Math.max(...seen.counts));
  const bars = seen.counts.map((count, index) => {
    const tall = (Math.log1p(count) / most) * (height - 4);
    return `<rect class="bar" x="${x(seen.start + index * seen.width).toFixed(1)}" y="${(height - tall).toFixed(1)}" width="${Math.max(0.6, x(left + seen.width) - 0.4).toFixed(2)}" height="${tall.toFixed(1)}"></rect>`;
  });
  const [low, high] = scale ? [x(scale.low), x(scale.high)] : [0, width];
  const cut = scale ? `<rect class="cut" width="${low.toFixed(1)}" height="${height}"></rect><rect class="cut" x="${high.toFixed(1)}" width="${(width - high).toFixed(1)}" height="${height}"></rect>`
    + `<path class="limit" d="M${low.toFixed(1)},0v${height}M${high.toFixed(1)},0v${height}"></path>` : "";
  return `<svg class="histogram" viewBox="0 0 ${width} ${height}" role="img" aria-label="histogram">${cut}${bars.join("")}</svg>`
    + `<p class="ends"><span>${short(left)}</span><span>values, log scale</span><span>${short(right)}</span></p>`
    + table([["seen", range], ["clipped", scale ? clippedText(seen, scale) : ""]]);
}

// how many of the values seen lie outside of the range; a bar that the range cuts counts by its part
function clippedText(seen, scale) {
  const total = seen.counts.reduce((sum, count) => sum + count, 0);
  const outside = seen.counts.reduce((sum, count, index) => {
    const low = seen.start + index * seen.width;
    const inside = Math.min(low + seen.width, scale.high) - Math.max(low, scale.low);
    return sum + count * (1 - Math.max(0, inside) / seen.width);
  }, 0);
  const cut = seen.low < scale.low || seen.high > scale.high;
  return cut ? `about ${((100 * outside) / total).toPrecision(2)} % of the values` : "nothing";
}

// the same node at each stage, or what took it in
function journey(card, here) {
  return `<ol class="journey">${STAGES.map((stage, number) => {
    const there = stage.number.get(card.id);
    const text = there === undefined ? "" : stage.cards[there].text;
    const name = there === undefined ? stage.name : `<a href="#" data-stage="${number}">${stage.name}</a>`;
    return `<li class="${number === here ? "here" : ""}"><b>${name}</b> <code>${escaped(clipped(text || "—", 160))}</code></li>`;
  }).join("")}</ol>`;
}

function framePanel(stage, path) {
  const numbers = cardsIn(stage, path);
  const floats = numbers.filter((number) => stage.cards[number].reason);
  const reasons = floats.slice(0, 40).map((number) => {
    const card = stage.cards[number];
    return `<li><a href="#" data-go="${number}">${escaped(card.title)}</a> ${escaped(card.reason.why)}</li>`;
  });
  return [
    heading(frameTitle(stage, path), counted(stage, path).map(([category, count]) => chip(category, `${count} ${category}`)).join(" "), path),
    section("Cost", table(costRows(summed(stage, path)))),
    section("Stays float", reasons.length ? `<ul>${reasons.join("")}</ul>` : ""),
    section("Inside", `<p>${numbers.length} nodes. Double-click or Enter opens and closes the module.</p>`),
  ].join("");
}

// --- what the passes changed ------------------------------------------------------------------------------------------------

function storyHtml(stage) {
  const { added, changed, removed } = stage.changes;
  const runs = stage.runs.map(([name, count]) => `<span class="run${count ? "" : " idle"}"><code>${name}</code> ${count}</span>`).join("");
  const counts = [["added", added.length], ["changed", changed.length], ["removed", removed.length]].filter(([, count]) => count);
  const button = counts.length ? `<button id="changes" aria-pressed="false">${counts.map(([word, count]) => `<i class="${word}"></i>${count} ${word}`).join(" ")}</button>` : "";
  return `<b>${stage.name}</b><span>${escaped(stage.meaning)}</span>${runs ? `<span class="runs">${runs}</span>` : ""}${button}`;
}

function changesPanel(stage) {
  const link = (id) => `<a href="#" data-go="${stage.number.get(id)}">${escaped(id)}</a>`;
  const removed = stage.changes.removed.map((gone) => `<li>${escaped(gone.what)}${gone.into ? ` → ${link(gone.into)}` : ""}</li>`);
  const list = (items) => (items.length ? `<ul>${items.slice(0, 400).join("")}</ul>` : "");
  return [
    heading(`Into ${stage.name}`, "", stage.meaning),
    section("Passes", table(stage.runs.map(([name, count]) => [escaped(name), `${count} changes`]))),
    section(`Removed or taken in (${removed.length})`, list(removed)),
    section(`Added (${stage.changes.added.length})`, list(stage.changes.added.map((id) => `<li>${link(id)}</li>`))),
    section(`Changed (${stage.changes.changed.length})`, list(stage.changes.changed.map((id) => `<li>${link(id)}</li>`))),
  ].join("");
}
