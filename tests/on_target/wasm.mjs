// Runs a firmware binary that was built for wasm: the three functions that its board layer imports.
//
//     node wasm.mjs FILE.wasm
import { readFileSync } from "node:fs";
import process from "node:process";

class Exit {
    constructor(code) {
        this.code = code;
    }
}

let memory;
const bytes = (pointer, length) => Buffer.from(memory.buffer, pointer, length);
const host = {
    text: (pointer, length) => process.stdout.write(Buffer.from(bytes(pointer, length))),
    log: (pointer, length) => process.stderr.write(Buffer.from(bytes(pointer, length))),
    exit: (code) => {
        throw new Exit(code);
    },
};
const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]), { host });
memory = instance.exports.memory;
try {
    instance.exports.run();
} catch (end) {
    if (!(end instanceof Exit)) throw end;
    process.exitCode = end.code;
}
