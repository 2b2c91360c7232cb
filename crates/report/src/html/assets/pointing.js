// What a pointer, fingers and keys do on the map. Owns gestures; what they come to is the view's.

const PAN_SHARE = 0.15;
// A pointer that moves less was a click.
const CLICK = 5;

// Wires a canvas to a view that has `folding`, `zoomBy`, `panBy`, `hoverAt`, `leave`, `clickAt`, `moveCursor` and others.
export function listen(canvas, view) {
  const pointers = new Map();
  let moved = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) * canvas.clientWidth / (box.width || 1), y: (event.clientY - box.top) * canvas.clientHeight / (box.height || 1) };
  };
  const pinch = () => {
    const [a, b] = [...pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) };
  };
  canvas.addEventListener('pointerdown', (event) => {
    if (event.button > 0) return;
    pointers.set(event.pointerId, at(event));
    if (pointers.size === 1) moved = 0;
    canvas.setPointerCapture?.(event.pointerId);
  });
  canvas.addEventListener('pointermove', (event) => {
    const to = at(event);
    const from = pointers.get(event.pointerId);
    if (!from) return view.hoverAt(to.x, to.y);
    if (pointers.size === 2) {
      const before = pinch();
      pointers.set(event.pointerId, to);
      const after = pinch();
      moved = CLICK;
      view.panBy(before.x - after.x, before.y - after.y);
      return view.zoomBy(after.apart / before.apart, after.x, after.y);
    }
    moved += Math.hypot(to.x - from.x, to.y - from.y);
    pointers.set(event.pointerId, to);
    if (moved >= CLICK && view.zoomed) {
      view.dragging(true);
      view.panBy(from.x - to.x, from.y - to.y);
    }
  });
  const up = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    view.dragging(false);
    if (event.type === 'pointerup' && pointers.size === 0 && moved < CLICK) {
      const to = at(event);
      view.clickAt(to.x, to.y);
    }
  };
  canvas.addEventListener('pointerup', up);
  canvas.addEventListener('pointercancel', up);
  canvas.addEventListener('pointerleave', () => view.leave());
  canvas.addEventListener('dblclick', (event) => {
    const to = at(event);
    view.zoomBy(4, to.x, to.y);
  });
  canvas.addEventListener('wheel', (event) => {
    const way = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    // Whoever only scrolls past is let past; with Ctrl, as touchpads pinch, or once the map was clicked, it zooms.
    if (!event.ctrlKey && document.activeElement !== canvas) return view.hint();
    if (way > 0 && !view.zoomed) return undefined;
    event.preventDefault();
    const to = at(event);
    if (event.shiftKey && !event.ctrlKey) return view.panBy(way || event.deltaX, 0);
    return view.zoomBy(Math.exp(-Math.max(-240, Math.min(240, way)) * (event.ctrlKey && Math.abs(way) < 20 ? 0.02 : 0.003)), to.x, to.y);
  }, { passive: false });
  canvas.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (pressed(event, view)) event.preventDefault();
  });
}

// Whether a key was one of the map's.
function pressed(event, view) {
  const { width, height } = view.folding;
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const arrow = arrows[event.key];
  if (arrow && event.shiftKey) view.panBy(arrow[0] * width * PAN_SHARE, arrow[1] * height * PAN_SHARE);
  else if (arrow) view.moveCursor(...arrow);
  else if (event.key === '+' || event.key === '=') view.zoomBy(2);
  else if (event.key === '-' || event.key === '_') view.zoomBy(0.5);
  else if (event.key === '0') view.fit();
  else if (event.key === 'Home') view.toEdge(-1);
  else if (event.key === 'End') view.toEdge(1);
  else if (event.key === 'PageUp') view.panBy(0, -height * 0.9, true);
  else if (event.key === 'PageDown') view.panBy(0, height * 0.9, true);
  else if (event.key === 'Enter' || event.key === ' ') view.takeCursor();
  else if (event.key === 'Escape') view.clearAll();
  else return false;
  return true;
}
