// Work that is asked for more often than it can be done: one at a time, and then what was asked for last.

const SLOW_MS = 300;

export class Latest {
  /**
   * `work(signal, isCurrent)`: what it learns counts only while `isCurrent()`; it ends early when the signal says so.
   * `onBusy(busy)`: called as soon as there is something to do, and once nothing is left.
   */
  constructor(work, onBusy) {
    this.work = work;
    this.onBusy = onBusy;
    this.wanted = 0;
    this.timer = null;
  }

  /** Have it done, for things as they are so many milliseconds from the first such call on. */
  askWithin(delay) {
    this.onBusy(true);
    this.timer ??= setTimeout(() => this.ask(), delay);
  }

  /** Have it done, for things as they are now. */
  ask() {
    this.onBusy(true);
    this.#untime();
    this.wanted += 1;
    if (!this.running) this.#run();
    // One that is slow is given up for the newer one.
    else if (performance.now() - this.began > SLOW_MS) this.running.abort();
  }

  /** Forget what is under way. */
  drop() {
    this.#untime();
    this.wanted += 1;
    this.running?.abort();
    this.dropped = this.wanted;
    this.onBusy(false);
  }

  #untime() {
    clearTimeout(this.timer);
    this.timer = null;
  }

  async #run() {
    const number = this.wanted;
    this.running = new AbortController();
    this.began = performance.now();
    try {
      await this.work(this.running.signal, () => number >= (this.dropped ?? 0));
    } finally {
      this.running = null;
      if (this.wanted > number && this.wanted !== this.dropped) this.#run();
      else if (this.timer === null) this.onBusy(false);
    }
  }
}
