// `node test/engines/docker/up.ts` brings a Docker Engine up and prints how to use it; `up.ts down <folder>` takes it away.
import { DockerEngine, whyNoDocker } from './docker-engine.ts';

if (whyNoDocker) throw new Error(`This machine cannot have one: ${whyNoDocker}.`);
if (process.argv[2] === 'down') await DockerEngine.found(process.argv[3]!).down();
else {
  const { folder, socket, tcpAddress, image } = await DockerEngine.up();
  console.log(
    JSON.stringify({ folder, address: `unix://${socket}`, tcpAddress, tls: `${folder}/tls`, image }, undefined, 2),
  );
  process.exit(0);
}
