// What is known of the sound, as it is heard: each title comes before its first block, and waits until that block sounds.

/** The titles that are on their way to the ear. */
export class Titles {
  constructor() {
    this.coming = []; // notices whose block is not heard yet
    this.newest = -1;
    this.current = null; // of the sound that is heard; null if nothing was told
  }

  /** Takes a notice of the server. */
  told({ metadata, sequence }) {
    // Another connection tells from its own start on, and a server that has started again counts from 0.
    if (sequence < this.newest) this.coming = [];
    this.newest = sequence;
    this.coming.push({ metadata, sequence });
  }

  /** Returns what is known of the block with this number, which has begun to sound. */
  heard(sequence) {
    while (this.coming.length > 0 && this.coming[0].sequence <= sequence) this.current = this.coming.shift().metadata;
    return this.current;
  }
}

/** Returns artist and title in one line; empty if nothing is known. */
export const titleLine = (metadata) => [metadata?.artist, metadata?.title].filter(Boolean).join(" – ");
