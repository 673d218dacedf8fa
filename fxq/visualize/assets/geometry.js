// From the layout of every frame to a drawing: frames that are open take the room of what is in them, and push the others apart.

const BOX = { width: 188, height: 46 };
const COLUMN = BOX.width + 30; // one unit of a layout's columns
const GAP = 38; // between layers; room for a value's type and scale
const PORT_GAP = 16; // between a frame's border and its first layer
const PAD = 16;
const HEADER = 26;

// Sizes and places inside a frame, from its left upper corner. Point 0 of a layout is where values come in, the last one where
// they go out; box i of the frame is point i + 1.
function composed(stage, path, open) {
  const frame = stage.frames.get(path);
  const last = frame.boxes.length + 1;
  const inner = frame.boxes.map((box) => (open.has(box) ? composed(stage, box, open) : null));
  const widths = frame.layers.map((_, point) => inner[point - 1]?.width ?? (point === 0 || point === last ? 0 : BOX.width));
  const heights = frame.layers.map((_, point) => inner[point - 1]?.height ?? (point === 0 || point === last ? 0 : BOX.height));
  const across = stretched(frame.columns, widths);
  const xs = frame.columns.map(across);
  const left = Math.min(...xs.map((x, point) => x - widths[point] / 2), ...Object.values(frame.lines).flat().map(across)) - PAD;
  const right = Math.max(...xs.map((x, point) => x + widths[point] / 2), ...Object.values(frame.lines).flat().map(across)) + PAD;
  const rows = stacked(frame.layers, heights, path === "" ? PAD : HEADER);
  const title = path === "" ? 0 : Math.min(frameTitle(stage, path).length, 40) * 7 + 80;
  const slack = Math.max(0, title - (right - left)) / 2;
  return {
    path, frame, inner, widths, heights, rows, last,
    x: (column) => across(column) - left + slack,
    width: right - left + 2 * slack,
    height: rows[rows.length - 1].bottom + PAD,
  };
}

// column → x: every column is as much wider as its widest box is than a box that is closed
function stretched(columns, widths) {
  const extra = new Map();
  columns.forEach((column, point) => extra.set(column, Math.max(extra.get(column) || 0, widths[point] - BOX.width, 0)));
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
function stacked(layers, heights, top) {
  const rows = Array.from({ length: Math.max(...layers) + 1 }, () => ({ height: 0, boxes: 0 }));
  layers.forEach((layer, point) => {
    rows[layer].height = Math.max(rows[layer].height, heights[point]);
    rows[layer].boxes += heights[point] > 0;
  });
  let y = top;
  for (const row of rows) {
    [row.top, row.bottom] = [y, y + row.height];
    y = row.bottom + (row.boxes ? GAP : PORT_GAP);
  }
  return rows;
}

// The whole drawing: boxes and open frames with their places on the canvas, and the edges between them.
function drawing(stage, open) {
  const root = composed(stage, "", open);
  const places = new Map(); // box → {x, y, width, height, open}; x is its left side
  const insides = new Map(); // path of an open frame → its composition, with its corner on the canvas
  const place = (inside, x0, y0) => {
    insides.set(inside.path, { ...inside, x0, y0 });
    inside.frame.boxes.forEach((box, index) => {
      const point = index + 1;
      const [width, height] = [inside.widths[point], inside.heights[point]];
      const row = inside.rows[inside.frame.layers[point]];
      const x = x0 + inside.x(inside.frame.columns[point]) - width / 2;
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
    points.push(...crossings(inside, inside.frame.boxes.indexOf(source[level + 1]) + 1, inside.last));
    points.push({ x: inside.x0 + inside.x(inside.frame.columns[inside.last]), y: inside.y0 + inside.height });
  }
  const shared = insides.get(source[common]);
  const pointOf = (box) => shared.frame.boxes.indexOf(box) + 1;
  points.push(...crossings(shared, pointOf(source[common + 1]), pointOf(target[common + 1])));
  for (let level = common + 1; level < target.length - 1; level += 1) {
    const inside = insides.get(target[level]);
    points.push({ x: inside.x0 + inside.x(inside.frame.columns[0]), y: inside.y0 });
    points.push(...crossings(inside, 0, inside.frame.boxes.indexOf(target[level + 1]) + 1));
  }
  const end = places.get(target[target.length - 1]);
  points.push({ x: end.x + end.width / 2, y: end.y });
  return points;
}

// where the line from one point of a layout to another crosses the layers between them
function crossings(inside, from, to) {
  const { layers, lines } = inside.frame;
  const line = lines[from] || [];
  return line.slice(0, Math.max(0, layers[to] - layers[from] - 1)).flatMap((column, index) => {
    const row = inside.rows[layers[from] + 1 + index];
    const x = inside.x0 + inside.x(column);
    return [{ x, y: inside.y0 + row.top }, { x, y: inside.y0 + row.bottom }];
  });
}

// a curve through the points that is vertical at each of them
function curve(points) {
  let path = `M${points[0].x.toFixed(1)},${points[0].y.toFixed(1)}`;
  for (let index = 1; index < points.length; index += 1) {
    const [a, b] = [points[index - 1], points[index]];
    const bend = b.y > a.y ? (b.y - a.y) / 2 : 40;
    path += Math.abs(a.x - b.x) < 0.5
      ? `V${b.y.toFixed(1)}`
      : `C${a.x.toFixed(1)},${(a.y + bend).toFixed(1)} ${b.x.toFixed(1)},${(b.y - bend).toFixed(1)} ${b.x.toFixed(1)},${b.y.toFixed(1)}`;
  }
  return path;
}
