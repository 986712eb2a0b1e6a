// `stellwerk registry trust`: the lines with which a container engine trusts this server's registry, reaches it and signs in. They are
// printed, not run: they belong onto the machines of the engine, as their administrator.
import type { ServerInfo } from '@stellwerk/contract/server.ts';
import { Command, Option } from 'commander';
import { line, printJson } from '../print.ts';
import type { Session } from '../session.ts';

interface Registry {
  /** Host and port, as it stands in front of an image. */
  host: string;
  isPlain: boolean;
  /** The certificate of an authority of its own. */
  authority?: string | undefined;
  user: string;
}

type Engine = (registry: Registry) => string[];

const loopback = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$/;

/** A file that is written by a shell, whatever stands in it. */
function file(path: string, text: string): string[] {
  const folder = path.slice(0, path.lastIndexOf('/'));
  return [`mkdir -p '${folder}'`, `cat > '${path}' <<'END'`, ...text.trim().split('\n'), 'END'];
}

const signIn = (program: string, { host, user }: Registry) => [
  '# The password is a token: `stellwerk token create --name pull --role reader`.',
  `${program} login '${host}' --username '${user}'`,
];

const engines: Record<'docker' | 'podman' | 'containerd' | 'kubernetes', Engine> = {
  docker: (registry) => [
    ...(registry.authority ? file(`/etc/docker/certs.d/${registry.host}/ca.crt`, registry.authority) : []),
    ...(registry.isPlain && !loopback.test(registry.host)
      ? [
          '# Without TLS: add this to /etc/docker/daemon.json and restart the engine.',
          `#   "insecure-registries": ["${registry.host}"]`,
        ]
      : []),
    ...signIn('docker', registry),
  ],
  podman: (registry) => [
    ...(registry.authority ? file(`/etc/containers/certs.d/${registry.host}/ca.crt`, registry.authority) : []),
    ...(registry.isPlain
      ? file(
          '/etc/containers/registries.conf.d/stellwerk.conf',
          `[[registry]]\nlocation = "${registry.host}"\ninsecure = true`,
        )
      : []),
    ...signIn('podman', registry),
  ],
  containerd: (registry) => [
    ...hosts(registry),
    '# Who pulls by hand gives a token: `stellwerk token create --name pull --role reader`.',
    `#   ctr images pull --hosts-dir /etc/containerd/certs.d --user '${registry.user}' '${registry.host}/<workspace>/<image>:<version>'`,
  ],
  kubernetes: (registry) => [
    '# On every node (containerd):',
    ...hosts(registry),
    '',
    '# Once for each namespace; pods name it in imagePullSecrets. The password is a token:',
    '# `stellwerk token create --name pull --role reader`.',
    'kubectl create secret docker-registry stellwerk \\',
    `  --docker-server='${registry.host}' --docker-username='${registry.user}' --docker-password="$STELLWERK_PULL_TOKEN"`,
  ],
};

function hosts({ host, isPlain, authority }: Registry): string[] {
  const folder = `/etc/containerd/certs.d/${host}`;
  const url = `${isPlain ? 'http' : 'https'}://${host}`;
  const ca = authority ? `\n  ca = "${folder}/ca.crt"` : '';
  return [
    '# /etc/containerd/config.toml must have, for the registry of its CRI plugin: config_path = "/etc/containerd/certs.d"',
    ...(authority ? file(`${folder}/ca.crt`, authority) : []),
    ...file(`${folder}/hosts.toml`, `server = "${url}"\n\n[host."${url}"]\n  capabilities = ["pull", "resolve"]${ca}`),
  ];
}

export function trustCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('trust').addOption(
    new Option('--engine <engine>', 'Which engine is to pull.').choices(Object.keys(engines)).default('docker'),
  );
  return command.action(async () => {
    const session = sessionOf(command);
    const client = await session.client();
    const [info, { user }] = await Promise.all([client.server.get(), client.me.get()]);
    const { engine } = command.opts<{ engine: keyof typeof engines }>();
    const lines = engines[engine](registryOf(info, user.name));
    if (session.json) printJson({ engine, host: new URL(info.publicUrl).host, lines });
    else for (const one of lines) line(one);
  });
}

function registryOf({ publicUrl, authority }: ServerInfo, user: string): Registry {
  const { host, protocol } = new URL(publicUrl);
  return { host, isPlain: protocol === 'http:', authority, user };
}
