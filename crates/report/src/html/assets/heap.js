// A walked heap: from columns to what each byte of it is. Free of the page.

export class Heap {
  // `look`: of the facts; `column`: name -> bytes.
  constructor(look, column) {
    this.look = look;
    this.column = column;
  }
}
