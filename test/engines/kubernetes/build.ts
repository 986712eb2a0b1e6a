// `node test/engines/kubernetes/build.ts` compiles Kubernetes, so that it is there when the first cluster is brought up.
import { builtBinary } from './programs.ts';

console.log(await builtBinary());
