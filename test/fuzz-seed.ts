// What property tests draw is the same for everybody, so that what passed once passes again; `FAST_CHECK_SEED=random` (or a number) looks further, and
// a property that fails tells its seed.
import { randomInt } from 'node:crypto';
import fc from 'fast-check';

const asked = process.env.FAST_CHECK_SEED ?? '20261126';

fc.configureGlobal({ seed: asked === 'random' ? randomInt(2 ** 31) : Number(asked) });
