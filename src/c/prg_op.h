/* How a PRG kernel combines its operand with the words of the stream. */
#ifndef PSM_PRG_OP_H
#define PSM_PRG_OP_H

enum prg_op { PRG_FILL, PRG_ADD, PRG_SUB, PRG_XOR };

#endif
