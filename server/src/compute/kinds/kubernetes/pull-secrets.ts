// What images are pulled with: a Secret that the namespace has, and one of the job's own for what the vault or the run configuration has.
import type { JobOrder, Target } from '../../driver.ts';
import { owner } from './manifest.ts';
import { labelsOf } from './places.ts';

/** Opens a secret that the settings of a target name. */
export type SecretOf = (target: Pick<Target, 'workspace' | 'name'>, secret: string) => Promise<string>;

/** The image that is asked for, where it is not the target's own, and what its registry is signed in to with. */
export interface AskedImage {
  image?: string;
  signIn?: JobOrder['imageSignIn'];
}

export const pullSecretName = (job: string) => `${job}-pull`;

export class SignIns {
  readonly #installation: string;
  readonly #secret: SecretOf;

  constructor(installation: string, secret: SecretOf) {
    this.#installation = installation;
    this.#secret = secret;
  }

  names({ settings }: Target<'kubernetes'>, asked: AskedImage, job: string): string[] {
    const kept = settings.pullSecret === undefined ? [] : [settings.pullSecret];
    return hasOwn(settings, asked) ? [...kept, pullSecretName(job)] : kept;
  }

  /** Belongs to the Job and goes with it. */
  async manifest(
    target: Target<'kubernetes'>,
    asked: AskedImage,
    job: string,
    uid: string,
  ): Promise<object | undefined> {
    const { settings } = target;
    if (!hasOwn(settings, asked)) return undefined;
    const image = asked.image ?? settings.image;
    const signIn = asked.signIn ?? {
      user: await this.#secret(target, settings.registryUser!),
      password: await this.#secret(target, settings.registryPassword!),
    };
    const auth = Buffer.from(`${signIn.user}:${signIn.password}`).toString('base64');
    const content = JSON.stringify({ auths: { [registryOf(image)]: { auth } } });
    return {
      apiVersion: 'v1',
      kind: 'Secret',
      type: 'kubernetes.io/dockerconfigjson',
      metadata: {
        name: pullSecretName(job),
        labels: labelsOf(this.#installation, 'run'),
        ownerReferences: [owner(job, uid)],
      },
      immutable: true,
      data: { '.dockerconfigjson': Buffer.from(content).toString('base64') },
    };
  }
}

/** What the target has is for its own image only: who names another brings what it takes. */
function hasOwn(settings: Target<'kubernetes'>['settings'], { image, signIn }: AskedImage): boolean {
  return signIn !== undefined || (image === undefined && settings.registryUser !== undefined);
}

/** As the cluster reads the names of images. */
function registryOf(image: string): string {
  const first = image.split('/')[0]!;
  const isHost = image.includes('/') && (/[.:]/.test(first) || first === 'localhost');
  return isHost ? first : 'https://index.docker.io/v1/';
}
