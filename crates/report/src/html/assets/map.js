// The heap map: a heap on a canvas, and what a pointer or a key does there.

export class MapView {
  // `element`: what it fills; `heap`: a Heap; `state`: a State; `options`: { strip, bytesPerRow }.
  constructor(element, heap, state, options = {}) {
    this.element = element;
    this.heap = heap;
    this.state = state;
    this.options = options;
  }
}
