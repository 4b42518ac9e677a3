// A cloud and boxes that turn: drawn on a plain canvas, without any library.
// Metres, x forward, y left, z up. All scenes of a strip share one view.
const EDGES = [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]];
const FRONT = [0, 1, 5, 4];
const START = { turn: 0, tilt: 0.42, distance: 34, x: 14, y: 0, z: -1 };
const GROUND = -1.73;
const NEAR = 0.3;

function decodeScene(canvas) {
  const scene = JSON.parse(canvas.dataset.scene);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return { points: new Int16Array(bytes(scene.points).buffer), colors: bytes(scene.colors), boxes: scene.boxes };
}

// From a point to pixels and depth, for a view and a canvas.
function projector(view, width, height) {
  const [sinTurn, cosTurn] = [Math.sin(view.turn), Math.cos(view.turn)];
  const [sinTilt, cosTilt] = [Math.sin(view.tilt), Math.cos(view.tilt)];
  const focal = 0.9 * Math.min(width, 1.6 * height);
  return (x, y, z) => {
    const dx = x - view.x, dy = y - view.y, dz = z - view.z;
    const ahead = cosTurn * dx + sinTurn * dy, left = -sinTurn * dx + cosTurn * dy;
    const depth = cosTilt * ahead - sinTilt * dz + view.distance;
    const up = sinTilt * ahead + cosTilt * dz;
    return [width / 2 - focal * left / depth, height / 2 - focal * up / depth, depth];
  };
}

function drawPoints(context, scene, project, size) {
  const { width, height } = context.canvas;
  const picture = context.getImageData(0, 0, width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const depths = new Float32Array(width * height).fill(Infinity);
  const { points, colors } = scene;
  for (let k = 0; k < points.length; k += 3) {
    const [u, v, depth] = project(points[k] / 100, points[k + 1] / 100, points[k + 2] / 100);
    if (depth < NEAR) continue;
    const color = 0xff000000 | (colors[k + 2] << 16) | (colors[k + 1] << 8) | colors[k];
    const side = Math.max(size, Math.min(4 * size, Math.round(size * 24 / depth)));
    const left = Math.round(u - side / 2), top = Math.round(v - side / 2);
    for (let row = Math.max(top, 0); row < Math.min(top + side, height); row += 1) {
      for (let column = Math.max(left, 0); column < Math.min(left + side, width); column += 1) {
        const place = row * width + column;
        if (depth < depths[place]) { depths[place] = depth; pixels[place] = color; }
      }
    }
  }
  context.putImageData(picture, 0, 0);
}

// A path through points, without what is behind the eye.
function trace(context, project, corners) {
  context.beginPath();
  let drawing = false;
  for (const corner of corners) {
    const [u, v, depth] = project(...corner);
    if (depth < NEAR) { drawing = false; continue; }
    if (drawing) context.lineTo(u, v); else context.moveTo(u, v);
    drawing = true;
  }
}

function drawRings(context, project, unit) {
  context.lineWidth = unit;
  context.fillStyle = "#9a9aa2";
  context.font = `${11 * unit}px system-ui, sans-serif`;
  context.strokeStyle = "#3a3a40";
  for (let radius = 10; radius <= 60; radius += 10) {
    const ring = [];
    for (let step = 0; step <= 96; step += 1) {
      const angle = step * Math.PI / 48;
      ring.push([radius * Math.cos(angle), radius * Math.sin(angle), GROUND]);
    }
    trace(context, project, ring);
    context.stroke();
    const [u, v, depth] = project(0, -radius, GROUND);
    if (depth > NEAR) context.fillText(`${radius} m`, u + 3 * unit, v - 3 * unit);
  }
  context.fillStyle = "#ebebeb";
  trace(context, project, [[0.5, 0, GROUND], [-2.5, 1, GROUND], [-1.9, 0, GROUND], [-2.5, -1, GROUND]]);
  context.fill();
}

function drawBoxes(context, boxes, project, unit) {
  context.font = `600 ${12 * unit}px system-ui, sans-serif`;
  for (const { corners, color, text, filled } of boxes) {
    const corner = (k) => corners.slice(3 * k, 3 * k + 3).map((each) => each / 100);
    const paint = `rgb(${color.join(" ")})`;
    context.strokeStyle = context.fillStyle = paint;
    context.lineWidth = (filled ? 2 : 1) * unit;
    for (const [from, to] of EDGES) {
      trace(context, project, [corner(from), corner(to)]);
      context.stroke();
    }
    if (!filled) continue;
    trace(context, project, FRONT.map(corner));
    context.globalAlpha = 0.35;
    context.fill();
    context.globalAlpha = 1;
    const top = [4, 5, 6, 7].map((k) => project(...corner(k))).filter((each) => each[2] > NEAR);
    if (!top.length) continue;
    const [u, v] = top.reduce((best, each) => (each[1] < best[1] ? each : best));
    context.strokeStyle = "#121212";
    context.lineWidth = 3 * unit;
    context.strokeText(text, u, v - 4 * unit);
    context.fillText(text, u, v - 4 * unit);
  }
}

function drawScene(canvas, view) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return;
  canvas.scene ??= decodeScene(canvas);
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#121212";
  context.fillRect(0, 0, width, height);
  const project = projector(view, width, height);
  drawRings(context, project, ratio);
  drawPoints(context, canvas.scene, project, Math.round(ratio));
  drawBoxes(context, canvas.scene.boxes, project, ratio);
}

// One finger or the mouse turns; two fingers zoom, tilt and move, as the wheel and shift do.
function turnable(canvas, view, changed) {
  const pointers = new Map();
  const limit = () => {
    view.tilt = Math.min(Math.max(view.tilt, 0.02), Math.PI / 2);
    view.distance = Math.min(Math.max(view.distance, 3), 150);
  };
  const move = (right, down) => {
    const scale = view.distance / canvas.clientWidth;
    view.y += scale * right * Math.cos(view.turn) + scale * down * Math.sin(view.turn);
    view.x += scale * down * Math.cos(view.turn) - scale * right * Math.sin(view.turn);
  };
  const act = (action) => { action(); limit(); changed(); };
  const spread = () => {
    const [one, other] = [...pointers.values()];
    return Math.hypot(one.x - other.x, one.y - other.y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const right = event.clientX - last.x, down = event.clientY - last.y;
    const before = pointers.size === 2 ? spread() : 0;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    act(() => {
      if (pointers.size === 2) {
        view.distance *= before / Math.max(spread(), 1);
        view.tilt += down / 400;
        move(right / 2, 0);
      } else if (event.shiftKey) {
        move(right, down);
      } else {
        view.turn -= right / 200;
        view.tilt += down / 200;
      }
    });
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    act(() => { view.distance *= Math.exp(event.deltaY / 600); });
  }, { passive: false });
  canvas.addEventListener("dblclick", () => act(() => Object.assign(view, START)));
  const keys = {
    a: () => { view.turn += 0.1; }, d: () => { view.turn -= 0.1; },
    w: () => { view.tilt += 0.06; }, s: () => { view.tilt -= 0.06; },
    "+": () => { view.distance /= 1.15; }, "-": () => { view.distance *= 1.15; },
    0: () => Object.assign(view, START),
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !keys[event.key]) return;
    event.preventDefault();
    act(keys[event.key]);
  });
}
