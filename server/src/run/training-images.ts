// Runs whose environment lies in the image that they run in: it is made of a base and the run's lock before the job is placed.
import type { BuiltPlan, EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import type { Job } from '@stellwerk/contract/job.ts';
import type { RunCaller } from '../access/access.ts';
import type { Digest } from '../blob/bytes.ts';
import type { MadeImage } from '../compute/computes.ts';
import type { RunRow } from './store.ts';

/** Made by the room of images, which is above. */
export interface TrainingImages {
  base(
    wanted: {
      name?: string;
      signIn?: { user: string; password: string };
      python?: string | undefined;
      pythonFallback?: boolean | undefined;
    },
    watch: { log(line: string): void; signal: AbortSignal },
  ): Promise<Base>;
  /** By which machines that reach this server pull it, for this attempt of the run only. */
  pullOf(run: Omit<RunCaller, 'kind'> & { digest: Digest }): MadeImage['pull'] | undefined;
}

interface Base {
  target: EnvironmentTarget;
  build(plan: BuiltPlan): Promise<Omit<MadeImage, 'pull'> & { digest: Digest; python: string }>;
}

type Of = Pick<RunRow, 'workspace' | 'id' | 'attempt' | 'user'>;

/** The job as it is done in an image with its environment: nothing is left to be made there. */
export async function baked(
  job: Job,
  base: Base | undefined,
  { workspace, id, attempt, user }: Of,
  images: Pick<TrainingImages, 'pullOf'>,
): Promise<{ job: Job; image?: MadeImage }> {
  if (!base || job.environment.kind !== 'built') return { job };
  const { notices } = job.environment;
  const image = await base.build(job.environment);
  const environment = { kind: 'user-managed', interpreterPath: image.python, notices } as const;
  const pull = images.pullOf({ workspace, run: id, attempt, user, digest: image.digest });
  return { job: { ...job, environment, indexes: { environment: {} } }, image: { ...image, ...(pull && { pull }) } };
}
