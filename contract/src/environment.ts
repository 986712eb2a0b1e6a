// The environment of a run or an image: what a user writes (the specification), what it is resolved to (the plan),
// and where packages come from (the index settings).
// Invariants: a plan is plain data and holds no credential; equal plans have equal keys; index settings are the only
// record in which credentials may stand, and they are sealed in the vault or lie in a 0600 file, never in a plan.
import * as z from 'zod';

export const pythonMinor = z
  .string()
  .regex(/^3\.\d{1,2}$/)
  .describe('A minor version of Python, such as `3.11`.');

const fileText = z.string().max(4 * 1024 * 1024);

export const builtSpecification = z
  .strictObject({
    name: z.string().max(256).optional().describe('A name for people; it does not change what is built.'),
    userManaged: z.literal(false).optional(),
    python: pythonMinor
      .optional()
      .describe('The Python minor; that of the conda file, else the first one on the target, unless given.'),
    pythonFallback: z
      .boolean()
      .optional()
      .describe('Take the nearest newer Python if the named one is not on the target.'),
    condaFile: fileText.optional().describe('The text of a conda environment file (YAML).'),
    requirements: fileText.optional().describe('The text of a requirements file, as pip reads it.'),
    lock: fileText
      .optional()
      .describe(
        'The text of a lock: a requirements file with every package pinned and hashed, as `uv pip compile --generate-hashes` makes it; before it, below `@EXPLICIT`, packages of conda with address and checksum.',
      ),
  })
  .refine(
    (spec) => [spec.condaFile, spec.requirements, spec.lock].filter((text) => text !== undefined).length <= 1,
    'give one of condaFile, requirements and lock',
  );
export type BuiltSpecification = z.infer<typeof builtSpecification>;

export const userManagedSpecification = z.strictObject({
  name: z.string().max(256).optional().describe('A name for people.'),
  userManaged: z.literal(true).describe('The Python that is there is used as it is; nothing is installed.'),
  interpreterPath: z
    .string()
    .max(4_096)
    .optional()
    .describe('The interpreter on the target; its `python3` unless given.'),
});
export type UserManagedSpecification = z.infer<typeof userManagedSpecification>;

export const environmentSpecification = z
  .union([userManagedSpecification, builtSpecification])
  .meta({ id: 'EnvironmentSpecification' });
export type EnvironmentSpecification = z.infer<typeof environmentSpecification>;

/** The platforms that an environment can be resolved for, whichever machine resolves it. */
export const environmentPlatform = z
  .enum(['linux-x64', 'linux-arm64', 'macos-x64', 'macos-arm64', 'windows-x64'])
  .describe('Operating system and processor of the machine or image that the environment is for.');
export type EnvironmentPlatform = z.infer<typeof environmentPlatform>;

/** What the machine that installs has. The runner reports it before a plan is made; an image's is known. */
export const environmentTarget = z
  .strictObject({
    platform: environmentPlatform,
    pythons: z.array(pythonMinor).describe('The Python minors found there, the one behind `python3` first.'),
    conda: z.boolean().optional().describe('Whether conda, mamba or micromamba is there.'),
  })
  .meta({ id: 'EnvironmentTarget' });
export type EnvironmentTarget = z.infer<typeof environmentTarget>;

/** Packages that conda, mamba or micromamba on the target installs. Only there if the target has one of them. */
export const condaPackages = z.strictObject({
  channels: z.array(z.string()).describe('In order of priority; without credentials.'),
  packages: z
    .array(z.string())
    .describe('As conda takes them, `python=3.11` among them; or, from a lock, addresses with checksums.'),
});

const indexUrl = z
  .string()
  .max(2_000)
  .regex(/^(https?|file):\/\/\S+$/)
  .describe('Address of a package index (PEP 503), without user name and password.');

export const indexCredential = z.strictObject({
  url: indexUrl.describe('The index or find-links page that it is for.'),
  username: z.string().max(500),
  password: z.string().max(8_000),
});
export type IndexCredential = z.infer<typeof indexCredential>;

/** Where packages come from. Set once on the server; holds for resolving, installing and images. */
export const indexSettings = z
  .strictObject({
    indexUrl: indexUrl.optional().describe('The package index in place of PyPI.'),
    extraIndexUrls: z
      .array(indexUrl)
      .optional()
      .describe('Further indexes, asked first, in this order; the first that has a package is the one that gives it.'),
    noIndex: z.boolean().optional().describe('Use find-links only.'),
    findLinks: z
      .array(z.string().max(4_096))
      .optional()
      .describe('Folders of the installing machine, or pages, that list package files.'),
    strategy: z
      .enum(['first-index', 'unsafe-best-match'])
      .optional()
      .describe(
        '`first-index` (the default) never mixes indexes for one package, so that nobody can put a newer namesake on another index; `unsafe-best-match` does as pip does.',
      ),
    credentials: z
      .array(indexCredential)
      .optional()
      .describe('Secret. By address; an index asks with the one for its own address.'),
    trustedHosts: z
      .array(z.string().max(300))
      .optional()
      .describe('Hosts (with port, if any) whose certificates are not checked.'),
    httpProxy: z.string().max(2_000).optional(),
    httpsProxy: z.string().max(2_000).optional(),
    noProxy: z.string().max(8_000).optional().describe('Hosts reached without a proxy, separated by commas.'),
    caBundle: z
      .string()
      .max(1024 * 1024)
      .optional()
      .describe('Certificates (PEM) to trust.'),
    preReleases: z.boolean().optional().describe('Take pre-releases too.'),
    timeoutSeconds: z.int().min(1).max(3_600).optional(),
  })
  .meta({ id: 'IndexSettings' });
export type IndexSettings = z.infer<typeof indexSettings>;

/**
 * What an installer does with it (the runner on a target follows this to the letter):
 * 1. The folder of the environment is named by `key`. If it is there and complete, it is used; else it is built once, in a folder
 *    beside it that is renamed at the end.
 * 2. With `conda`: `conda create --prefix <folder> --override-channels --channel … <packages>`; where the packages are
 *    addresses with checksums, without channels, which conda installs as they are. Without: `uv venv` with the interpreter of
 *    `pythonMinor`. If that minor has gone since the plan was made, the run fails and names those that are there.
 * 3. `uv pip install --python <folder>/bin/python <installFlags> -r <file with lockText>`, in the environment given by the index
 *    access (below). An empty `lockText` means that there is nothing to install.
 * 4. With `needsStellwerk`, the scripts see our own package: by PYTHONPATH, never by installing it into this folder, which other runs share.
 */
export const builtPlan = z.strictObject({
  kind: z.literal('built'),
  key: z
    .string()
    .describe('SHA-256 of all that decides what is installed: lock, Python minor, platform, conda packages.'),
  lockHash: z.string().describe('SHA-256 of `lockText`, hexadecimal.'),
  lockText: z
    .string()
    .describe('A requirements file in canonical form: one pinned, hashed package a line, sorted, no comments.'),
  pythonMinor,
  requestedPython: pythonMinor.optional().describe('What the specification asked for.'),
  pythonFallback: z
    .boolean()
    .describe('Whether a nearest newer Python may stand in for the requested one; `pythonMinor` is the one chosen.'),
  platform: environmentPlatform,
  conda: condaPackages.optional(),
  needsStellwerk: z.boolean().describe('Whether the specification asked for `stellwerk` or `azureml-*`.'),
  installFlags: z.array(z.string()).describe('Flags for `uv pip install`, none of them secret.'),
  indexes: indexSettings
    .omit({ credentials: true })
    .optional()
    .describe('The index settings that the specification itself named; the server merges them into the index access.'),
  notices: z
    .array(z.string())
    .describe('What was done differently from what was written, in full sentences, for the log.'),
});
export type BuiltPlan = z.infer<typeof builtPlan>;

export const userManagedPlan = z.strictObject({
  kind: z.literal('user-managed'),
  interpreterPath: z.string().optional(),
  notices: z.array(z.string()),
});
export type UserManagedPlan = z.infer<typeof userManagedPlan>;

export const environmentPlan = z
  .discriminatedUnion('kind', [builtPlan, userManagedPlan])
  .meta({ id: 'EnvironmentPlan' });
export type EnvironmentPlan = z.infer<typeof environmentPlan>;

/**
 * The index settings, ready for the program that installs. Secret: it goes over the run's own token, never into a record.
 * The runner writes `netrc` and `caBundle` into 0600 files of a private folder and sets NETRC and SSL_CERT_FILE to them; the rest are variables.
 */
export const indexAccess = z.strictObject({
  environment: z.record(z.string(), z.string()).describe('Environment variables for uv.'),
  netrc: z.string().optional().describe('The content of a netrc file.'),
  caBundle: z.string().optional().describe('Certificates (PEM) to trust.'),
});
export type IndexAccess = z.infer<typeof indexAccess>;
