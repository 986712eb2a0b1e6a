// `node test/engines/ssh/up.ts` brings a machine with sshd up and prints how to use it; `up.ts down <folder>` takes it away.
import { SshHost, whyNoSshHost } from './ssh-host.ts';

if (whyNoSshHost) throw new Error(`This machine cannot have one: ${whyNoSshHost}.`);
if (process.argv[2] === 'down') await SshHost.found(process.argv[3]!).down();
else {
  const host = await SshHost.up();
  const { folder, address, port, user, password, hostKey } = host;
  console.log(
    JSON.stringify({ folder, address, port, user, password, hostKey, key: `${folder}/keys/user` }, undefined, 2),
  );
  process.exit(0);
}
