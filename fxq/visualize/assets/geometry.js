// From the layout of every frame to a drawing: frames that are open take the room of what is in them, and push the others apart.

const BOX = { width: 212, height: 46 };
const COLUMN = BOX.width + 30; // one unit of a layout's columns
const GAP = 38; // between layers; room for a value's type and scale
const PORT_GAP = 16; // between a frame's border and its first layer
const PAD = 16;
const HEADER = 26;
const GUTTER = 44; // between strips; room for the lines that go on in the next one
const TURN = 42; // above and below a strip, for the same
const LANE = 6; // between such lines

// Sizes and places inside a frame, from its left upper corner. Point 0 of a layout is where values come in, the last one where
// they go out; box i of the frame is point i + 1. A frame that would be taller than `tallest` goes on at the top, in a further strip.
function composed(stage, path, open, tallest) {
  const frame = stage.frames.get(path);
  const last = frame.boxes.length + 1;
  const top = path === "" ? PAD : HEADER;
  const inner = frame.boxes.map((box) => (open.has(box) ? composed(stage, box, open, tallest - top - 2 * PORT_GAP - PAD) : null));
  const sizes = frame.layers.map((_, point) => inner[point - 1] ?? (point === 0 || point === last ? { width: 0, height: 0 } : BOX));
  const rows = stacked(frame.layers, sizes, top);
  const strips = stripsOf(frame, rows, sizes, tallest);
  const end = strips[strips.length - 1];
  const title = path === "" ? 0 : Math.min(frameTitle(stage, path).length, 40) * 7 + 80;
  const slack = Math.max(0, title - end.right) / 2;
  return {
    path, frame, inner, sizes, rows, last, strips,
    x: (column, layer) => rows[layer].strip.x(column) + slack,
    width: end.right + 2 * slack,
    height: Math.max(...strips.map((strip) => strip.bottom)) + PAD,
  };
}

// column → x: every column is as much wider as its widest box is than a box that is closed
function stretched(points) {
  const extra = new Map();
  for (const { column, width } of points) extra.set(column, Math.max(extra.get(column) || 0, width - BOX.width, 0));
  const sorted = [...extra].sort((a, b) => a[0] - b[0]);
  return (column) => {
    let x = column * COLUMN;
    for (const [other, more] of sorted) {
      if (other > column) break;
      x += other === column ? more / 2 : more;
    }
    return x;
  };
}

// top and bottom of every layer
function stacked(layers, sizes, top) {
  const rows = Array.from({ length: Math.max(...layers) + 1 }, () => ({ height: 0, boxes: 0 }));
  layers.forEach((layer, point) => {
    rows[layer].height = Math.max(rows[layer].height, sizes[point].height);
    rows[layer].boxes += sizes[point].height > 0;
  });
  let y = top;
  for (const row of rows) {
    [row.top, row.bottom] = [y, y + row.height];
    y = row.bottom + (row.boxes ? GAP : PORT_GAP);
  }
  return rows;
}

// Cuts the layers into strips no taller than `tallest`, where that can be, and puts them side by side. Moves the rows there.
function stripsOf(frame, rows, sizes, tallest) {
  const strips = [];
  for (const row of rows) {
    const strip = strips[strips.length - 1];
    if (strip && (row.bottom - strip.rows[0].top <= tallest || !row.boxes)) strip.rows.push(row);
    else strips.push({ rows: [row], points: [], lanes: [] });
    row.strip = strips[strips.length - 1];
  }
  frame.layers.forEach((layer, point) => rows[layer].strip.points.push({ column: frame.columns[point], width: sizes[point].width }));
  for (const [point, line] of Object.entries(frame.lines)) {
    line.forEach((column, index) => rows[frame.layers[point] + 1 + index].strip.points.push({ column, width: 0 }));
  }
  const top = rows[0].top;
  let left = 0;
  strips.forEach((strip, number) => {
    const lift = number ? strip.rows[0].top - top - TURN : 0;
    for (const row of strip.rows) [row.top, row.bottom] = [row.top - lift, row.bottom - lift];
    const across = stretched(strip.points);
    const least = Math.min(...strip.points.map(({ column, width }) => across(column) - width / 2));
    const offset = left + PAD - least;
    strip.x = (column) => across(column) + offset;
    strip.right = Math.max(...strip.points.map(({ column, width }) => strip.x(column) + width / 2)) + PAD;
    strip.bottom = strip.rows[strip.rows.length - 1].bottom + (number < strips.length - 1 ? TURN : 0);
    strip.top = strip.rows[0].top - TURN;
    left = strip.right + GUTTER;
  });
  return strips;
}

// The whole drawing: boxes and open frames with their places on the canvas, and the edges between them.
function drawing(stage, open, tallest) {
  const root = composed(stage, "", open, tallest);
  const places = new Map(); // box → {x, y, width, height, open}; x is its left side
  const insides = new Map(); // path of an open frame → its composition, with its corner on the canvas
  const place = (inside, x0, y0) => {
    insides.set(inside.path, { ...inside, x0, y0 });
    inside.frame.boxes.forEach((box, index) => {
      const point = index + 1;
      const { width, height } = inside.sizes[point];
      const layer = inside.frame.layers[point];
      const row = inside.rows[layer];
      const x = x0 + inside.x(inside.frame.columns[point], layer) - width / 2;
      const y = y0 + row.top + (row.height - height) / 2;
      places.set(box, { x, y, width, height, open: inside.inner[index] !== null });
      if (inside.inner[index]) place(inside.inner[index], x, y);
    });
  };
  place(root, 0, 0);
  return { stage, places, insides, width: root.width, height: root.height, edges: edgesOf(stage, places, insides) };
}

function edgesOf(stage, places, insides) {
  const ways = stage.cards.map((_, number) => wayTo(stage, number));
  const shown = ways.map((way) => way.findIndex((box) => box !== "" && !insides.has(box)));
  const edges = new Map();
  stage.cards.forEach((card, reader) => {
    for (const operand of card.reads) {
      const [source, target] = [ways[operand].slice(0, shown[operand] + 1), ways[reader].slice(0, shown[reader] + 1)];
      const [from, to] = [source[source.length - 1], target[target.length - 1]];
      if (from === to) continue;
      const key = `${from}>${to}`;
      if (!edges.has(key)) edges.set(key, { from, to, values: new Set(), points: route(source, target, places, insides) });
      edges.get(key).values.add(operand);
    }
  });
  return [...edges.values()];
}

// Points of an edge: out of the frames around its source, across the frame that both are in, and into those around its reader.
function route(source, target, places, insides) {
  let common = 0;
  while (source[common + 1] !== undefined && source[common + 1] === target[common + 1]) common += 1;
  const start = places.get(source[source.length - 1]);
  const points = [{ x: start.x + start.width / 2, y: start.y + start.height }];
  for (let level = source.length - 2; level > common; level -= 1) {
    const inside = insides.get(source[level]);
    cross(points, inside, inside.frame.boxes.indexOf(source[level + 1]) + 1, inside.last, port(inside, inside.last, inside.height));
  }
  const shared = insides.get(source[common]);
  const pointOf = (box) => shared.frame.boxes.indexOf(box) + 1;
  const end = places.get(target[target.length - 1]);
  const entry = (level) => (level === target.length - 1 ? { x: end.x + end.width / 2, y: end.y } : port(insides.get(target[level]), 0, 0));
  cross(points, shared, pointOf(source[common + 1]), pointOf(target[common + 1]), entry(common + 1));
  for (let level = common + 1; level < target.length - 1; level += 1) {
    const inside = insides.get(target[level]);
    cross(points, inside, 0, inside.frame.boxes.indexOf(target[level + 1]) + 1, entry(level + 1));
  }
  return points;
}

// where values come into a frame, or go out
function port(inside, point, y) {
  return { x: inside.x0 + inside.x(inside.frame.columns[point], inside.frame.layers[point]), y: inside.y0 + y };
}

// Adds the way from one point of a frame to another one: through the layers between, and round the ends of strips.
function cross(points, inside, from, to, end) {
  const { layers, lines } = inside.frame;
  const line = lines[from] || [];
  for (let layer = layers[from] + 1; layer < layers[to]; layer += 1) {
    const row = inside.rows[layer];
    const x = inside.x0 + inside.x(line[layer - layers[from] - 1], layer);
    turn(points, inside, from, layer, x);
    points.push({ x, y: inside.y0 + row.top }, { x, y: inside.y0 + row.bottom });
  }
  turn(points, inside, from, layers[to], end.x);
  points.push(end);
}

// Between the last layer of a strip and the first one of the next: down, to the gutter, up, and to the place below.
function turn(points, inside, from, layer, x) {
  const [strip, next] = [inside.rows[layer - 1]?.strip, inside.rows[layer].strip];
  if (!strip || strip === next || layer <= inside.frame.layers[from]) return;
  if (!strip.lanes.includes(from)) strip.lanes.push(from);
  const lane = (strip.lanes.indexOf(from) % 5) * LANE;
  const [below, gutter, above] = [inside.y0 + strip.bottom - 8 - lane, inside.x0 + strip.right + 8 + lane, inside.y0 + next.top + 2 + lane];
  const before = points[points.length - 1].x;
  points.push(...[[before, below], [gutter, below], [gutter, above], [x, above]].map(([u, v]) => ({ x: u, y: v, corner: true })));
}

const RADIUS = 7;

// a curve through the points that is vertical at each of them, but for corners, which are straight lines rounded
function curve(points) {
  const at = ({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`;
  let path = `M${at(points[0])}`;
  for (let index = 1; index < points.length; index += 1) {
    const [a, b, c] = [points[index - 1], points[index], points[index + 1]];
    const bend = b.y > a.y ? (b.y - a.y) / 2 : 40;
    if (b.corner) path += `L${at(towards(b, a))}Q${at(b)} ${at(towards(b, c))}`;
    else if (Math.abs(a.x - b.x) < 0.5) path += `V${b.y.toFixed(1)}`;
    else path += `C${a.x.toFixed(1)},${(a.y + bend).toFixed(1)} ${b.x.toFixed(1)},${(b.y - bend).toFixed(1)} ${at(b)}`;
  }
  return path;
}

// the point a little way from one to another
function towards(from, to) {
  const length = Math.hypot(to.x - from.x, to.y - from.y);
  const part = length ? Math.min(RADIUS, length / 2) / length : 0;
  return { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
}
