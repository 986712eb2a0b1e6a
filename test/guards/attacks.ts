// Every attack that we know of, with its guard and its test, by what is attacked; and those for which there is nothing to attack yet.
// `docs/attacks.md` is made of it.
import type { Guard } from './guard.ts';
import { pathGuards } from './paths.ts';

export const attacks: Record<string, readonly Guard[]> = {
  Paths: pathGuards,
};

/** Attacks on what Stellwerk does not have, or in no way that could be taken away. */
export const nothingToAttack: Record<string, string> = {
  'symbolic links and hard links in an uploaded snapshot':
    'a listing has files only; an archive with anything else is refused (see Archives)',
};
