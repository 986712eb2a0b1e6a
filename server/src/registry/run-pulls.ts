// What the machines of a compute target pull for a run: the image that was made for it here, from a repository named after its digest.
// Invariants: the sign-in is that of one attempt of a run; it reads that image and nothing else, as long as the attempt is on; it is sealed and
// written down nowhere here; no image of a workspace lies in such a repository, and no user's token reads one.
import * as z from 'zod';
import type { RunCaller } from '../access/access.ts';
import type { Digest } from '../blob/bytes.ts';
import { isDigest } from '../oci/digest.ts';

/** An attempt of a run, and the image that was made for it. */
export type RunPull = Omit<RunCaller, 'kind'> & { digest: Digest };

export interface RunPullNeeds {
  sealing: { seal(secret: string, place: string): string; unseal(sealed: string, place: string): string };
  /** Whether that attempt is on. */
  isOn(of: Pick<RunCaller, 'workspace' | 'run' | 'attempt'>): Promise<boolean>;
}

export const runPull = z.object({
  workspace: z.string(),
  run: z.string(),
  attempt: z.number(),
  user: z.string(),
  digest: z.custom<Digest>(isDigest),
});

const user = 'stellwerk-run';
const place = 'registry-run';
/** Names of images are written in another way: what follows this would have to have a hyphen. */
const mark = 'x--made';

export const repositoryOfMade = (digest: Digest): string => mark + digest.slice('sha256:'.length);

/** The image that lies in a repository of that name; undefined if it is none of these. */
export function madeIn(repository: string): Digest | undefined {
  const digest = `sha256:${repository.slice(mark.length)}`;
  return repository.startsWith(mark) && isDigest(digest) ? digest : undefined;
}

export class RunPulls {
  readonly #needs: RunPullNeeds;

  constructor(needs: RunPullNeeds) {
    this.#needs = needs;
  }

  signInOf(pull: RunPull): { user: string; password: string } {
    return { user, password: this.#needs.sealing.seal(JSON.stringify(pull), place) };
  }

  /** Whose it is, if it is such a sign-in and good, now. */
  async opened(name: string, password: string): Promise<RunPull | undefined> {
    const pull = name === user ? this.#unsealed(password) : undefined;
    return pull && (await this.#needs.isOn(pull)) ? pull : undefined;
  }

  async mayPull(pull: RunPull, workspace: string, repository: string): Promise<boolean> {
    const isOwn = workspace === pull.workspace.toLowerCase() && repository === repositoryOfMade(pull.digest);
    return isOwn && this.#needs.isOn(pull);
  }

  #unsealed(password: string): RunPull | undefined {
    try {
      return runPull.parse(JSON.parse(this.#needs.sealing.unseal(password, place)));
    } catch {
      return undefined; // made up, changed, or of a key that was replaced
    }
  }
}
