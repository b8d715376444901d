// The calls of a session as columns: the tree of them, what of it is shown, and where the time went. No object for a call.

export const RUNNING = -1;

export class Calls {
  // Args: the columns; the time of the server, in milliseconds since 1970; whether time goes on for calls without an end.
  constructor(columns, now, isGoingOn) {
    Object.assign(this, columns);
    this.loadedAt = performance.now();
    this.now = (now - columns.origin) * 1000;
    this.isGoingOn = isGoingOn;
    this.replayed = new Set(columns.replayed);
    this.errors = new Map(Object.entries(columns.errors).map(([place, text]) => [Number(place), text]));
    this.tokens = new Map(Object.entries(columns.tokens).map(([place, counts]) => [Number(place), counts]));
    this.places = new Map(this.id.map((id, place) => [id, place]));
    this.named = new Map(this.names.map((name, place) => [name, place]));
    this.numbers = new Map(this.statuses.map((status, place) => [status, place]));
    this.first = [];
    this.next = [];
    this.last = [];
    this.depth = [];
    this.roots = [];
    for (let place = 0; place < this.id.length; place++) this.#link(place);
  }

  get length() {
    return this.id.length;
  }

  #link(place) {
    const parent = this.parent[place];
    this.first.push(-1);
    this.last.push(-1);
    this.next.push(-1);
    // A parent stands before its children. A file that says otherwise gets a tree all the same.
    if (parent < 0 || parent >= place) {
      this.parent[place] = -1;
      this.depth.push(0);
      this.roots.push(place);
      return;
    }
    this.depth.push(this.depth[parent] + 1);
    if (this.first[parent] < 0) this.first[parent] = place;
    else this.next[this.last[parent]] = place;
    this.last[parent] = place;
  }

  // Take what the server tells of calls: new ones, and new ends of known ones.
  apply(rows) {
    for (const [id, parent, node, status, attempt, start, end, error, given] of rows) {
      let place = this.places.get(id);
      if (place === undefined) {
        place = this.id.push(id) - 1;
        this.places.set(id, place);
        this.parent.push(this.places.get(parent) ?? -1);
        if (!this.named.has(node ?? '')) this.named.set(node ?? '', this.names.push(node ?? '') - 1);
        this.node.push(this.named.get(node ?? ''));
        this.attempt.push(attempt ?? 1);
        this.given.push(given ?? '');
        this.start.push(start ?? end ?? 0);
        this.end.push(RUNNING);
        this.status.push(this.numbers.get('running'));
        this.#link(place);
      }
      if (this.numbers.has(status)) this.status[place] = this.numbers.get(status);
      if (end !== null) this.end[place] = Math.max(end, this.start[place]);
      if (error) this.errors.set(place, error);
    }
  }

  // Microseconds since the start of the session: now, or, of a session that does not go on, the last time that is known.
  present() {
    if (this.isGoingOn) return this.now + (performance.now() - this.loadedAt) * 1000;
    let last = 1;
    for (let place = 0; place < this.length; place++) last = Math.max(last, this.start[place], this.end[place]);
    return last;
  }

  endOf(place, present) {
    return this.end[place] === RUNNING ? Math.max(present, this.start[place]) : this.end[place];
  }

  span(present) {
    let last = 1;
    for (const root of this.roots) last = Math.max(last, this.endOf(root, present));
    return last;
  }

  statusOf(place) {
    return this.statuses[this.status[place]];
  }

  nameOf(place) {
    return this.names[this.node[place]];
  }

  hasChildren(place) {
    return this.first[place] >= 0;
  }

  *children(place) {
    for (let child = this.first[place]; child >= 0; child = this.next[child]) yield child;
  }

  // The calls that are shown, in their order: all but those below closed ones, and of a filter what fits, with what is above.
  rows(closed, fits) {
    const kept = fits ? this.#keptBy(fits) : null;
    const rows = [];
    const stack = [];
    const push = children => {
      for (let place = children.length - 1; place >= 0; place--) if (!kept || kept[children[place]]) stack.push(children[place]);
    };
    push(this.roots);
    while (stack.length) {
      const place = stack.pop();
      rows.push(place);
      if (!closed.has(place) && this.first[place] >= 0) push([...this.children(place)]);
    }
    return rows;
  }

  #keptBy(fits) {
    const kept = new Uint8Array(this.length);
    for (let place = this.length - 1; place >= 0; place--) {
      if (kept[place] || fits(place)) {
        kept[place] = 1;
        if (this.parent[place] >= 0) kept[this.parent[place]] = 1;
      }
    }
    return kept;
  }

  counts() {
    const found = new Array(this.statuses.length).fill(0);
    for (const status of this.status) found[status]++;
    return found;
  }

  // The time of a call in which none of the calls made in it ran.
  selfTime(place, present) {
    let covered = 0;
    let until = this.start[place];
    const end = this.endOf(place, present);
    // Children stand in the order of their start.
    for (const child of this.children(place)) {
      const from = Math.max(until, this.start[child]);
      const to = Math.min(end, this.endOf(child, present));
      if (to > from) covered += to - from;
      until = Math.max(until, to);
    }
    return Math.max(0, end - this.start[place] - covered);
  }

  // For each node: how many calls, how many of them failed, their own time, and the one that took longest.
  byNode(present) {
    const found = new Map();
    const failed = this.numbers.get('failed');
    for (let place = 0; place < this.length; place++) {
      const node = this.node[place];
      const took = this.endOf(place, present) - this.start[place];
      let entry = found.get(node);
      if (!entry) found.set(node, (entry = {node, calls: 0, failed: 0, self: 0, longest: place, most: -1}));
      entry.calls++;
      if (this.status[place] === failed) entry.failed++;
      entry.self += this.selfTime(place, present);
      if (took > entry.most) [entry.longest, entry.most] = [place, took];
    }
    return [...found.values()].sort((a, b) => b.self - a.self);
  }

  // The chain of calls that the end of the session waited for: in each call the child that ended last, and so on back.
  criticalPath(present) {
    const path = [];
    const stack = [[this.#lastBefore(this.roots, Infinity, present), Infinity]];
    while (stack.length && path.length < 10_000) {
      const [place, limit] = stack.pop();
      if (place < 0) continue;
      path.push(place);
      let until = Math.min(limit, this.endOf(place, present));
      const children = [...this.children(place)].sort((a, b) => this.endOf(b, present) - this.endOf(a, present));
      for (const child of children) {
        // What runs beside a later one is not what was waited for.
        if (this.endOf(child, present) <= until + 1) {
          stack.push([child, until]);
          until = this.start[child];
        }
      }
    }
    return path;
  }

  #lastBefore(places, limit, present) {
    let found = -1;
    for (const place of places) {
      const end = this.endOf(place, present);
      if (end <= limit && (found < 0 || end > this.endOf(found, present))) found = place;
    }
    return found;
  }

  // The call that the session failed by: the deepest failed one of the first chain of failures.
  firstFailure(cause) {
    if (cause !== null && this.places.has(cause)) return this.places.get(cause);
    const failed = this.numbers.get('failed');
    let found = this.status.indexOf(failed);
    for (let place = found; place >= 0; ) {
      found = place;
      place = [...this.children(place)].find(child => this.status[child] === failed) ?? -1;
    }
    return found;
  }

  // How many calls without children ran in each part of a time, and how many failed in it.
  density(parts, span, present) {
    const steps = new Int32Array(parts + 2);
    const failures = new Int32Array(parts);
    const failed = this.numbers.get('failed');
    const partOf = time => Math.min(parts - 1, Math.max(0, Math.floor((time / span) * parts)));
    for (let place = 0; place < this.length; place++) {
      if (this.first[place] < 0) {
        const from = partOf(this.start[place]);
        steps[from]++;
        steps[partOf(this.endOf(place, present)) + 1]--;
      }
      if (this.status[place] === failed) failures[partOf(this.endOf(place, present))]++;
    }
    const running = new Int32Array(parts);
    for (let part = 0, count = 0; part < parts; part++) running[part] = count += steps[part];
    return {running, failures};
  }
}
