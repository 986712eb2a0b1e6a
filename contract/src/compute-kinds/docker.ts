// A Docker Engine: each run is a container on it.
import * as z from 'zod';
import { secretName } from '../values.ts';
import { gpus, maxConcurrentRuns } from './places.ts';
import { sshAddress } from './sign-in.ts';

const byTcp = /^tcp:\/\//;
const bySsh = /^ssh:\/\//;
const tlsSecrets = ['ca', 'certificate', 'key'] as const;

export const dockerSettings = z
  .strictObject({
    kind: z.literal('docker'),
    address: z
      .string()
      .max(300)
      .regex(
        /^unix:\/\/\/[A-Za-z0-9._/-]+$|^tcp:\/\/[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:\d{1,5}$|^ssh:\/\/[A-Za-z_][A-Za-z0-9_.-]{0,63}@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?(\/[A-Za-z0-9._/-]+)?$/,
        'must be such as `unix:///var/run/docker.sock`, `tcp://engine.example:2376` or `ssh://user@engine.example`',
      )
      .default('unix:///var/run/docker.sock')
      .describe(
        "Where the engine listens: a socket of the server's own machine, TCP with TLS, or a machine that is signed in to by SSH (a path after its name is that of the socket there).",
      ),
    ca: secretName
      .optional()
      .describe('The secret that holds the certificate of the authority that the engine is known by; for `tcp://`.'),
    certificate: secretName.optional().describe('The secret that holds the certificate to sign in with; for `tcp://`.'),
    key: secretName
      .optional()
      .describe('The secret that holds the private key to sign in with; for `tcp://` and `ssh://`.'),
    passphrase: secretName.optional().describe('The secret that holds the passphrase of the key; for `ssh://`.'),
    password: secretName.optional().describe('The secret that holds the password to sign in with; for `ssh://`.'),
    hostKey: sshAddress.hostKey,
    image: z
      .string()
      .max(500)
      .regex(/^[a-z0-9][A-Za-z0-9._:/@-]*$/, 'must be the name of an image, such as `python:3.13-slim`')
      .default('python:3.13-slim')
      .describe('The image of runs whose configuration names none; Python 3.8 or newer must be in it.'),
    maxConcurrentRuns,
    gpus,
  })
  .superRefine((settings, context) => {
    const need = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    if (byTcp.test(settings.address))
      for (const name of tlsSecrets)
        if (settings[name] === undefined)
          need(name, 'The secret is needed to reach an engine by TCP, which speaks TLS only.');
    if (bySsh.test(settings.address) && settings.key === undefined && settings.password === undefined)
      need('key', 'A key or a password is needed to sign in.');
  })
  .describe('A Docker Engine: each run is a container on it.')
  .meta({
    id: 'DockerSettings',
    // The same, as JSON Schema says it.
    anyOf: [
      addressed('^unix://'),
      addressed('^tcp://', 'address', ...tlsSecrets),
      addressed('^ssh://', 'address', 'key'),
      addressed('^ssh://', 'address', 'password'),
    ],
  });

function addressed(pattern: string, ...required: string[]) {
  return { properties: { address: { pattern } }, ...(required.length > 0 && { required }) };
}
