// What a run took (CPUs, memory, disk, network, GPUs), sampled by its runner: series like those of its script, but kept apart from them by a
// letter before their names that no name of a script's metric begins with.

const mark = '\u001f';

/** The name by which a series of a resource is kept. */
export function keptName(resource: string): string {
  return mark + resource;
}

export function isOfResource(kept: string): boolean {
  return kept.startsWith(mark);
}

/** As users name it. */
export function shownName(kept: string): string {
  return isOfResource(kept) ? kept.slice(mark.length) : kept;
}
