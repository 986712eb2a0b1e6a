// The commands made by hand, each loaded when it is called: what is a row of calls for the service is one thing to do for its user.
import type { Comfort } from './program.ts';

export const comforts: readonly Comfort[] = [];
