// Runs whose environment lies in the image that they run in: it is made of a base and the run's lock before the job is placed.
import type { BuiltPlan, EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import type { Job } from '@stellwerk/contract/job.ts';
import type { MadeImage } from '../compute/computes.ts';

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
}

interface Base {
  target: EnvironmentTarget;
  build(plan: BuiltPlan): Promise<MadeImage & { python: string }>;
}

/** The job as it is done in an image with its environment: nothing is left to be made there. */
export async function baked(job: Job, base: Base | undefined): Promise<{ job: Job; image?: MadeImage }> {
  if (!base || job.environment.kind !== 'built') return { job };
  const { notices } = job.environment;
  const image = await base.build(job.environment);
  const environment = { kind: 'user-managed', interpreterPath: image.python, notices } as const;
  return { job: { ...job, environment, indexes: { environment: {} } }, image };
}
