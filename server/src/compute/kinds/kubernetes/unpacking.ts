// How our Python package comes into a pod: its second container unpacks it, and the job, from their Secret, which no other container sees; whatever
// else is started in the pod waits for that. (A container that comes before the others would cost a second: the kubelet sees once a second only
// that one has ended.)
import { bundle, givenPlace, place, python } from './places.ts';

/** The exit code of a container that could not unpack. */
export const notUnpacked = 73;
const waitsSeconds = 600;

/** From the standard library only, since nothing else is there yet. Whoever sees the package, sees all of it, and the job. */
const unpack = `
import os, sys
given, place = sys.argv[1:3]
def read(name):
    with open(os.path.join(given, name), "rb") as file:
        return file.read()
try:
    if sys.version_info < (3, 8):
        raise RuntimeError("its version is %d.%d" % sys.version_info[:2])
    import gzip, hashlib, io, json, tempfile, zipfile
    os.umask(0o077)
    if os.path.exists(os.path.join(given, "job.json")):
        job = read("job.json")
        os.mkdir(os.path.join(place, "job"))
        with open(os.path.join(place, "job", "job.json"), "wb") as file:
            file.write(job)
        with open(os.path.join(place, "key"), "wb") as file:
            file.write(hashlib.sha256(("ranks " + json.loads(job.decode())["token"]).encode()).digest())
    made = tempfile.mkdtemp(prefix="bundle-", dir=place)
    zipfile.ZipFile(io.BytesIO(gzip.decompress(read("package")))).extractall(made)
    os.symlink(made, made + ".link")
    os.replace(made + ".link", os.path.join(place, "bundle"))
except Exception as error:
    sys.stderr.write("%s: %s\\n" % (type(error).__name__, error))
    sys.exit(${notUnpacked})
os.execv(sys.executable, [sys.executable, "-S"] + sys.argv[3:])
`;

/** A first process that does not listen to SIGTERM would not be ended by it. */
const wait = `
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
until = time.monotonic() + ${waitsSeconds}
while not os.path.exists(sys.argv[1]):
    if time.monotonic() > until:
        sys.stderr.write("What it needs was not unpacked.\\n")
        sys.exit(${notUnpacked})
    time.sleep(0.01)
os.execv(sys.executable, [sys.executable, "-S"] + sys.argv[2:])
`;

/** What Python is to do in the container that sees the Secret. */
export const afterUnpacking = (...args: readonly string[]) => [...python, '-c', unpack, givenPlace, place, ...args];

/** What Python is to do in any other, and whatever is started in one beside. */
export const onceUnpacked = (...args: readonly string[]) => [...python, '-c', wait, bundle, ...args];
